"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { shown: [], clip: null, frame: 0, playing: false, next: 0, granularity: -1, sort: "place", rising: true };
const FRAMES_A_SECOND = 12;

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text; // never as HTML: names come from outside
  if (kind) element.className = kind;
  return element;
}

const ANSWERS = data.compared ? ["static", "adapted"] : ["static"];
const LAST = ANSWERS.at(-1);
const labelled = (clip) => clip.label >= 0;
const has = { compared: data.compared, alone: !data.compared, labelled: data.clips.some(labelled) };
has.unlabelled = !has.labelled;
const best = (clip, when) => clip[when][0][0];
const confidence = (clip) => clip[LAST][0][1];
const changed = (clip) => best(clip, "static") !== best(clip, LAST);
const OUTCOMES = {
  "": () => true,
  changed,
  fixed: (clip) => best(clip, "static") !== clip.label && best(clip, LAST) === clip.label,
  broken: (clip) => best(clip, "static") === clip.label && best(clip, LAST) !== clip.label,
  wrong: (clip) => labelled(clip) && best(clip, LAST) !== clip.label,
};
const KEYS = {
  place: (clip) => clip.place,
  id: (clip) => clip.id,
  label: (clip) => data.classes[clip.label] ?? "",
  before: (clip) => data.classes[best(clip, "static")],
  after: (clip) => data.classes[best(clip, LAST)],
  changed: (clip) => (changed(clip) ? 0 : 1),
  confidence,
};

// The list ---------------------------------------------------------------------------------------

function listClips() {
  const chosen = byId("by-class").value;
  const kind = (clip) => (has.labelled ? clip.label : best(clip, LAST));
  const least = Number(byId("by-confidence").value) / 100;
  const outcome = OUTCOMES[byId("by-outcome").value];
  const key = KEYS[state.sort];
  state.shown = data.clips.filter(
    (clip) => (chosen === "" || kind(clip) === Number(chosen)) && outcome(clip) && confidence(clip) >= least,
  );
  state.shown.sort((a, b) => {
    const [x, y] = state.rising ? [key(a), key(b)] : [key(b), key(a)];
    return x < y ? -1 : x > y ? 1 : a.place - b.place;
  });
  const body = byId("clips").tBodies[0];
  body.replaceChildren(...state.shown.map(listRow));
  const all = data.clips.length;
  byId("count").textContent = `${state.shown.length} of ${all} clips` + (data.left_out ? `; ${data.left_out} more are not in this file` : "");
  for (const button of document.querySelectorAll("[data-sort]")) {
    const sorted = button.dataset.sort === state.sort;
    button.parentElement.setAttribute("aria-sort", sorted ? (state.rising ? "ascending" : "descending") : "none");
  }
  if (!state.shown.includes(state.clip)) choose(state.shown[0] || null);
  else mark();
}

function listRow(clip) {
  const row = make("tr");
  row.tabIndex = -1;
  row.append(make("td", has.labelled ? data.classes[clip.label] : clip.id));
  for (const when of ANSWERS) {
    const guess = best(clip, when);
    const kind = guess === clip.label ? "hit" : "miss";
    row.append(make("td", data.classes[guess], labelled(clip) ? kind : ""));
  }
  if (data.compared) row.append(make("td", changed(clip) ? "yes" : ""));
  row.append(make("td", `${(100 * confidence(clip)).toFixed(0)} %`));
  row.addEventListener("click", () => choose(clip));
  return row;
}

function mark() {
  const rows = byId("clips").tBodies[0].rows;
  const focused = document.activeElement.matches("#clips tbody tr");
  state.shown.forEach((clip, place) => {
    const chosen = clip === state.clip;
    rows[place].setAttribute("aria-selected", chosen);
    rows[place].tabIndex = chosen ? 0 : -1;
    if (!chosen) return;
    rows[place].scrollIntoView({ block: "nearest" });
    if (focused) rows[place].focus();
  });
}

function step(by) {
  const place = state.shown.indexOf(state.clip) + by;
  if (place >= 0 && place < state.shown.length) choose(state.shown[place]);
}

// The clip ---------------------------------------------------------------------------------------

function choose(clip) {
  state.clip = clip;
  state.frame = 0;
  byId("clip-title").textContent = clip ? titleOf(clip) : "No clip";
  if (clip) {
    byId("seek").max = Math.max(0, clip.frames - 1);
    for (const when of ANSWERS) byId(`top-${when}`).replaceChildren(...clip[when].map((pair) => bar(clip, pair)));
    mark();
  }
  describe();
  draw();
}

function titleOf(clip) {
  const place = `number ${clip.place + 1}`;
  return labelled(clip) ? `${data.classes[clip.label]} (${clip.id}, ${place})` : `${clip.id} (${place})`;
}

function bar(clip, [guess, share]) {
  const item = make("li", undefined, guess === clip.label ? "true" : "");
  const fill = make("span", undefined, "fill");
  fill.style.width = `${100 * share}%`;
  item.append(fill, make("span", `${data.classes[guess]} ${(100 * share).toFixed(0)} %`));
  return item;
}

function describe() {
  const { clip, granularity } = state;
  if (granularity < 0 || !clip) {
    byId("description").textContent = "";
    return;
  }
  const query = data.texts ? `${data.classes[best(clip, "static")]}: ${data.texts[best(clip, "static")][granularity]}` : data.query;
  const range = clip.range[granularity].join(" to ");
  byId("description").textContent = `Query: ${query}. Weakest to strongest token: ${range} times an even share.`;
}

function joints(clip) {
  if (!clip.points) clip.points = bytes(clip.data);
  if (!clip.strengths && clip.attention) clip.strengths = bytes(clip.attention);
  return clip.points;
}

/** Screen position of a joint: quantised metres, turned about the vertical, seen from the front. */
function place(clip, person, joint, width, height) {
  const count = data.joints.length;
  const start = ((person * clip.frames + state.frame) * count + joint) * 3;
  const [x, y, z] = [0, 1, 2].map((axis) => clip.points[start + axis] / 255 - clip.centre[axis]);
  const angle = (Number(byId("turn").value) * Math.PI) / 180;
  const across = -(x * Math.cos(angle) - y * Math.sin(angle));
  const size = Math.min(width, height) * 0.92; // the longest side of the box is 1
  return [width / 2 + across * size, height / 2 - z * size];
}

function attentionOf(clip, joint) {
  if (state.granularity < 0) return 0;
  const count = data.joints.length;
  const segment = Math.floor((state.frame * data.segments) / clip.frames);
  return clip.strengths[(state.granularity * data.segments + segment) * count + joint] / 255;
}

function draw() {
  const canvas = byId("skeleton");
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  const clip = state.clip;
  byId("frame").textContent = clip ? `${state.frame + 1} of ${clip.frames}` : "";
  byId("seek").value = state.frame;
  if (!clip || !clip.data) return;
  joints(clip);
  for (let person = 0; person < clip.persons; person += 1) {
    const at = data.joints.map((_, joint) => place(clip, person, joint, width, height));
    pen.strokeStyle = "#7b8794";
    pen.lineWidth = 5;
    pen.lineCap = "round";
    for (const [child, parent] of data.bones) {
      pen.beginPath();
      pen.moveTo(...at[child]);
      pen.lineTo(...at[parent]);
      pen.stroke();
    }
    at.forEach(([x, y], joint) => {
      const strength = attentionOf(clip, joint);
      pen.beginPath();
      pen.arc(x, y, 6 + 18 * strength, 0, 2 * Math.PI);
      pen.fillStyle = state.granularity < 0 ? "#3e4c59" : colour(strength);
      pen.fill();
      pen.lineWidth = 1.5;
      pen.strokeStyle = "#1f2933";
      pen.stroke();
    });
  }
}

/** From light yellow to dark blue: the ends differ in lightness, for every eye and in print. */
function colour(strength) {
  const [from, to] = [[255, 234, 70], [0, 34, 78]];
  return `rgb(${from.map((low, i) => Math.round(low + strength * (to[i] - low))).join(" ")})`;
}

function seek(frame) {
  if (!state.clip) return;
  state.frame = (frame + state.clip.frames) % state.clip.frames;
  draw();
}

function play(on) {
  state.playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", on);
  cancelAnimationFrame(state.next);
  let last = 0;
  function tick(now) {
    if (now - last > 1000 / FRAMES_A_SECOND) {
      last = now;
      seek(state.frame + 1);
    }
    state.next = requestAnimationFrame(tick);
  }
  if (on) state.next = requestAnimationFrame(tick);
}

// Controls ---------------------------------------------------------------------------------------

function attend(granularity) {
  state.granularity = granularity;
  byId("descriptions").querySelector(`input[value="${granularity}"]`).checked = true;
  describe();
  draw();
}

["none", ...data.granularities].forEach((name, place) => {
  const [label, input] = [make("label"), make("input")];
  Object.assign(input, { type: "radio", name: "granularity", value: place - 1, checked: place === 0 });
  input.addEventListener("change", () => attend(place - 1));
  label.append(input, ` ${place} ${name}`);
  byId("descriptions").append(label);
});
data.classes.forEach((name, place) => {
  const option = make("option", name);
  option.value = place;
  byId("by-class").append(option);
});
for (const element of document.querySelectorAll("[data-needs]")) {
  if (!element.dataset.needs.split(" ").every((need) => has[need])) element.remove();
}
byId("by-outcome").parentElement.hidden = byId("by-outcome").length === 1;
for (const id of ["by-class", "by-outcome", "by-confidence"]) byId(id).addEventListener("input", listClips);
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    state.rising = state.sort === button.dataset.sort ? !state.rising : true;
    state.sort = button.dataset.sort;
    listClips();
  });
}
byId("play").addEventListener("click", () => play(!state.playing));
byId("seek").addEventListener("input", (event) => { play(false); seek(Number(event.target.value)); });
byId("turn").addEventListener("input", draw);
byId("skeleton").addEventListener("pointermove", (event) => {
  if (event.buttons !== 1) return;
  const turn = Number(byId("turn").value) + event.movementX / 2;
  byId("turn").value = ((turn + 540) % 360) - 180;
  draw();
});
document.addEventListener("keydown", (event) => {
  const field = event.target.matches("input:not([type=radio]), select");
  if (event.ctrlKey || event.altKey || event.metaKey || field) return;
  const button = event.target.matches("button");
  const radio = event.target.matches("input[type=radio]");
  const actions = {
    ArrowUp: radio ? null : () => step(-1),
    ArrowDown: radio ? null : () => step(1),
    ArrowLeft: radio ? null : () => { play(false); seek(state.frame - 1); },
    ArrowRight: radio ? null : () => { play(false); seek(state.frame + 1); },
    " ": button || radio || event.repeat ? null : () => play(!state.playing),
  };
  const digit = /^[0-9]$/.test(event.key) && Number(event.key) <= data.granularities.length;
  const action = digit ? () => attend(Number(event.key) - 1) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
for (const id of ["descriptions", "attention-hint"]) byId(id).hidden = data.granularities.length === 0;
if (data.clips.length && !data.clips.some((clip) => clip.data)) {
  byId("skeleton").hidden = true;
  byId("no-clip").hidden = false;
}
listClips();
