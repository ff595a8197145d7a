// Controls and keys of the page. Needs `report.js` before it.

function attend(granularity) {
  const input = byId("descriptions").querySelector(`input[value="${granularity}"]`);
  if (!input) return;
  input.checked = true;
  state.granularity = granularity;
  describe();
  draw();
}

for (const element of document.querySelectorAll("[data-needs]")) {
  if (!element.dataset.needs.split(" ").every((need) => has[need])) element.remove();
}
[[-1, "none"], ...data.attended].forEach(([place, name]) => {
  const [label, input] = [make("label"), make("input")];
  Object.assign(input, { type: "radio", name: "granularity", value: place, checked: place < 0 });
  input.addEventListener("change", () => attend(place));
  label.append(input, ` ${place + 1} ${name}`);
  byId("descriptions").append(label);
});
data.classes.forEach((name, place) => {
  const option = make("option", name);
  option.value = place;
  byId("by-class").append(option);
});
for (const [name, text] of legend()) {
  const button = make("button", text);
  button.value = name;
  button.addEventListener("click", () => {
    state.outcome = name;
    listClips();
  });
  byId("outcomes").append(button);
}
byId("by-class").addEventListener("input", listClips);
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    state.rising = state.sort === button.dataset.sort ? !state.rising : true;
    state.sort = button.dataset.sort;
    listClips();
  });
}
byId("outcomes").hidden = byId("outcomes").children.length < 2;
byId("attention").hidden = byId("attention-keys").hidden = data.attended.length === 0;
document.body.classList.toggle("one-clip", data.clips.length < 2);
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("play").addEventListener("click", () => play(!state.playing));
byId("seek").addEventListener("input", (event) => { play(false); seek(Number(event.target.value)); });
byId("turn").addEventListener("input", draw);
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("close").addEventListener("click", () => byId("keys").close());
byId("strip").addEventListener("click", (event) => {
  const place = Math.floor((event.offsetX / byId("strip").clientWidth) * IN_ORDER.length);
  const clip = IN_ORDER[Math.min(place, IN_ORDER.length - 1)];
  if (!state.shown.includes(clip)) {
    state.outcome = "all";
    byId("by-class").value = "";
    listClips();
  }
  choose(clip);
});
byId("skeleton").addEventListener("pointermove", (event) => {
  if (event.buttons !== 1) return;
  const turn = Number(byId("turn").value) + event.movementX / 2;
  byId("turn").value = ((turn + 540) % 360) - 180;
  draw();
});
window.addEventListener("resize", () => { drawStrip(); draw(); });
document.addEventListener("keydown", (event) => {
  const field = event.target.matches("input:not([type=radio]), select");
  if (event.ctrlKey || event.altKey || event.metaKey || field || byId("keys").open) return;
  const radio = event.target.matches("input[type=radio]");
  const button = event.target.matches("button");
  const actions = {
    ArrowUp: radio ? null : () => step(-1),
    ArrowDown: radio ? null : () => step(1),
    ArrowLeft: radio ? null : () => { play(false); seek(Math.floor(state.time) - 1); },
    ArrowRight: radio ? null : () => { play(false); seek(Math.floor(state.time) + 1); },
    " ": button || radio || event.repeat ? null : () => play(!state.playing),
    "?": () => byId("keys").showModal(),
  };
  const action = /^[0-9]$/.test(event.key) ? () => attend(Number(event.key) - 1) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
const playable = data.clips.some((clip) => clip.data);
if (data.clips.length && !playable) {
  document.querySelector(".stage").hidden = byId("skeleton").hidden = true;
  byId("no-clip").hidden = false;
}
listClips();
play(playable && !window.matchMedia("(prefers-reduced-motion: reduce)").matches);
