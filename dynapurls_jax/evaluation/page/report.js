// The page: a strip of all clips, a list of them, and the player. Needs `skeleton.js` before it.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const state = { shown: [], clip: null, time: 0, playing: false, next: 0, granularity: -1, outcome: "all", sort: "place", rising: true };

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text; // never as HTML: names are untrusted
  if (kind) element.className = kind;
  return element;
}

const LAST = data.compared ? 1 : 0; // index of the final prediction and of its probabilities
const labelled = (clip) => clip.label >= 0;
const right = (clip, when) => clip.guesses[when] === clip.label;
const changed = (clip) => clip.guesses[0] !== clip.guesses[LAST];
const share = (clip, when) => Math.max(...clip.answers.map((answer) => answer[1 + when]));
const percent = (value) => `${(100 * value).toFixed(0)} %`;
const confidence = (clip) => share(clip, LAST);
const has = {
  compared: data.compared, alone: !data.compared, labelled: data.clips.some(labelled),
  imagined: data.imagined.some(Boolean), texts: data.texts !== null,
};
has.unlabelled = !has.labelled;
const IN_ORDER = [...data.clips].sort((a, b) => a.place - b.place);
const OUTCOMES = {
  all: ["all", [], () => true],
  changed: ["prediction changed", ["compared"], changed],
  fixed: ["wrong, then right", ["compared", "labelled"], (clip) => labelled(clip) && !right(clip, 0) && right(clip, LAST)],
  broken: ["right, then wrong", ["compared", "labelled"], (clip) => labelled(clip) && right(clip, 0) && !right(clip, LAST)],
  wrong: [data.compared ? "wrong after refinement" : "wrong", ["labelled"], (clip) => labelled(clip) && !right(clip, LAST)],
};
const KEYS = {
  place: (clip) => clip.place,
  id: (clip) => clip.id,
  label: (clip) => data.classes[clip.label] ?? "",
  before: (clip) => data.classes[clip.guesses[0]],
  after: (clip) => data.classes[clip.guesses[LAST]],
  confidence,
};

// The list ---------------------------------------------------------------------------------------

function listClips() {
  const chosen = byId("by-class").value;
  const kind = (clip) => (has.labelled ? clip.label : clip.guesses[LAST]);
  const key = KEYS[state.sort];
  const kept = OUTCOMES[state.outcome][2];
  state.shown = data.clips.filter((clip) => kept(clip) && (chosen === "" || kind(clip) === Number(chosen)));
  state.shown.sort((a, b) => {
    const [x, y] = state.rising ? [key(a), key(b)] : [key(b), key(a)];
    return x < y ? -1 : x > y ? 1 : a.place - b.place;
  });
  byId("clips").tBodies[0].replaceChildren(...state.shown.map(listRow));
  const more = data.left_out ? `; ${data.left_out} more are not in this file` : "";
  byId("count").textContent = `${state.shown.length} of ${data.clips.length} clips${more}`;
  for (const button of document.querySelectorAll("[data-sort]")) {
    const sorted = button.dataset.sort === state.sort;
    button.parentElement.setAttribute("aria-sort", sorted ? (state.rising ? "ascending" : "descending") : "none");
  }
  for (const button of byId("outcomes").children) button.setAttribute("aria-pressed", button.value === state.outcome);
  if (state.shown.includes(state.clip)) mark();
  else choose(state.shown.find(changed) || state.shown[0] || null);
}

function verdict(clip, when) {
  if (!labelled(clip)) return "";
  return right(clip, when) ? "hit" : "miss";
}

function listRow(clip) {
  const row = make("tr", undefined, changed(clip) ? "changed" : "");
  row.tabIndex = -1;
  row.append(make("td", clip.place + 1), make("td", has.labelled ? data.classes[clip.label] : clip.id));
  for (let when = 0; when <= LAST; when += 1) row.append(make("td", data.classes[clip.guesses[when]], verdict(clip, when)));
  row.append(make("td", percent(confidence(clip))));
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
    const box = rows[place].closest(".scroll"); // scrollIntoView would move the page as well
    const [top, head] = [rows[place].offsetTop, byId("clips").tHead.offsetHeight];
    if (top - head < box.scrollTop) box.scrollTop = top - head;
    box.scrollTop = Math.max(box.scrollTop, top + rows[place].offsetHeight - box.clientHeight);
    if (focused) rows[place].focus({ preventScroll: true });
  });
}

function step(by) {
  const place = state.shown.indexOf(state.clip) + by;
  if (place >= 0 && place < state.shown.length) choose(state.shown[place]);
}

// The strip --------------------------------------------------------------------------------------

const TINTS = { hit: "#0b5394", miss: "#f2a278", "": "#d3d9e0", changed: "#7c3aed" };

function drawStrip() {
  const { pen, width, height } = cleared(byId("strip"));
  const cell = width / IN_ORDER.length;
  const rows = has.labelled ? LAST + 1 : 1;
  const tall = (height - 8 * rows) / rows;
  IN_ORDER.forEach((clip, place) => {
    const [x, wide] = [place * cell, Math.max(1, cell - (cell > 4 ? 1 : 0))];
    for (let row = 0; row < rows; row += 1) {
      pen.fillStyle = TINTS[has.labelled ? verdict(clip, row) : changed(clip) ? "changed" : ""];
      pen.fillRect(x, 4 + row * (tall + 8), wide, tall);
    }
    if (has.labelled && changed(clip)) {
      pen.fillStyle = TINTS.changed;
      pen.fillRect(x, 5 + tall, wide, 6);
    }
  });
  if (!state.clip) return;
  pen.strokeStyle = "#111";
  pen.lineWidth = 2.5;
  pen.strokeRect(IN_ORDER.indexOf(state.clip) * cell - 1, 1.5, Math.max(cell + 1, 4), height - 3);
}

function legend() {
  const key = (kind, text) => {
    const square = make("span", "", "square");
    square.style.background = TINTS[kind];
    return [square, make("span", text)];
  };
  const parts = has.labelled ? [...key("hit", "right"), ...key("miss", "wrong")] : key("", "same prediction");
  if (data.compared) parts.push(...key("changed", "prediction changed by refinement"));
  if (data.compared && has.labelled) parts.push("Upper row: before refinement; lower row: after. ");
  byId("strip-legend").append(...parts, "Click to play a clip.");
  const count = (name) => data.clips.filter(OUTCOMES[name][2]).length;
  const names = Object.keys(OUTCOMES).filter((name) => OUTCOMES[name][1].every((need) => has[need]));
  byId("strip").setAttribute("aria-label", names.map((name) => `${OUTCOMES[name][0]}: ${count(name)}`).join(", "));
  byId("strip").classList.toggle("one-row", !has.labelled || !data.compared);
  byId("stream").hidden = data.clips.length < 2 || (!data.compared && !has.labelled);
  return names.map((name) => [name, `${OUTCOMES[name][0]} (${count(name)})`]);
}

// The clip ---------------------------------------------------------------------------------------

function choose(clip) {
  state.clip = clip;
  state.time = 0;
  const all = data.clips.length + data.left_out;
  byId("clip-title").textContent = !clip ? "No clip" : all > 1 ? `Clip ${clip.place + 1} of ${all}: ${clip.id}` : clip.id;
  byId("verdict").hidden = !clip;
  byId("answers").replaceChildren(...(clip ? clip.answers.map((answer) => bar(clip, answer)) : []));
  byId("change").textContent = clip ? change(clip) : "";
  byId("change").className = clip && changed(clip) ? "changed" : "";
  if (clip) {
    byId("seek").max = Math.max(0, clip.frames - 1);
    if (has.labelled) byId("truth").querySelector("b").textContent = labelled(clip) ? data.classes[clip.label] : "not known";
    ["before", "after"].slice(0, LAST + 1).forEach((id, when) => {
      const card = byId(id);
      card.className = `card ${verdict(clip, when)} ${changed(clip) ? "changed" : ""}`;
      card.querySelector("b").textContent = data.classes[clip.guesses[when]];
      card.querySelector("i").textContent = `confidence ${percent(share(clip, when))}`;
    });
    mark();
    explain(clip.guesses[LAST]);
  }
  drawStrip();
  describe();
  draw();
}

/** The effect of refinement on a prediction, in a sentence. */
function change(clip) {
  const end = (when) => (right(clip, when) ? "right" : "wrong");
  const note = clip.note ? ` ${clip.note}` : "";
  if (!data.compared) return (labelled(clip) ? `The prediction is ${end(0)}.` : "") + note;
  if (!changed(clip)) return `Refinement did not change the prediction${labelled(clip) ? `: ${end(0)}` : ""}.${note}`;
  return `Refinement changed the prediction${labelled(clip) ? `: ${end(0)} before, ${end(1)} after` : ""}.${note}`;
}

function explain(guess) {
  if (has.texts) byId("read").textContent = `Description of \u201c${data.classes[guess]}\u201d: ${data.texts[guess][0]}`;
  if (!has.imagined) return;
  byId("imagined-title").textContent = data.imagined[guess]
    ? `Motion sketch of \u201c${data.classes[guess]}\u201d`
    : `\u201c${data.classes[guess]}\u201d has no motion sketch`;
}

function bar(clip, [guess, ...shares]) {
  const item = make("li", undefined, guess === clip.label ? "true" : "");
  const bars = make("div", undefined, "bars");
  shares.forEach((value, when) => {
    const [track, fill] = [make("div", undefined, "track"), make("span", undefined, when === LAST ? "fill last" : "fill")];
    fill.style.width = `${90 * value}%`;
    track.append(fill, make("span", percent(value), "value"));
    bars.append(track);
  });
  item.append(make("span", data.classes[guess], "name"), bars);
  return item;
}

function describe() {
  const { clip, granularity } = state;
  byId("sides").hidden = granularity >= 0 || byId("skeleton").hidden;
  if (granularity < 0 || !clip) {
    byId("description").textContent = "";
    return;
  }
  const guess = clip.guesses[0];
  const query = data.own_queries ? `\u201c${data.texts ? data.texts[guess][granularity] : data.classes[guess]}\u201d` : data.query;
  const [low, high] = clip.range[granularity];
  byId("description").textContent =
    `Attention of a joint, relative to uniform attention: ${low} times (small, light) to ${high} times (large, dark). Query: ${query}`;
}

function attentionOf(clip) {
  if (state.granularity < 0) return null;
  if (!clip.strengths) clip.strengths = bytes(clip.attention);
  const count = data.body.joints.length;
  const segment = Math.floor((Math.floor(state.time) * data.segments) / clip.frames);
  const start = (state.granularity * data.segments + segment) * count;
  return (joint) => clip.strengths[start + joint] / 255;
}

function draw() {
  const { clip } = state;
  const frame = Math.floor(state.time);
  byId("frame").textContent = clip ? `${frame + 1} of ${clip.frames}` : "";
  byId("seek").value = frame;
  const turn = Number(byId("turn").value);
  drawMotion(byId("skeleton"), clip, data.body, state.time, turn, clip && attentionOf(clip));
  if (!has.imagined) return;
  const imagined = clip && data.imagined[clip.guesses[LAST]];
  const phase = clip ? state.time / Math.max(1, clip.frames - 1) : 0;
  drawMotion(byId("imagined"), imagined, data.body, imagined ? phase * (imagined.frames - 1) : 0, turn, null);
}

function seek(frame) {
  if (!state.clip) return;
  state.time = (frame + state.clip.frames) % state.clip.frames;
  draw();
}

function play(on) {
  state.playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", on);
  cancelAnimationFrame(state.next);
  let last = null;
  function tick(now) {
    const { clip } = state;
    if (clip && last !== null) {
      const time = state.time + ((now - last) / 1000) * (clip.frames / clip.seconds);
      state.time = time < clip.frames - 1 ? time : 0;
      draw();
    }
    last = now;
    state.next = requestAnimationFrame(tick);
  }
  if (on) state.next = requestAnimationFrame(tick);
}
