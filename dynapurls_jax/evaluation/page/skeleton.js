"use strict";
// Draws quantised motions as skeletons on a canvas.

const SIDES = { left: "#00795a", right: "#b5498f", middle: "#3e4c59" };
const TILT = (8 * Math.PI) / 180; // elevation of the camera

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** Clears a canvas at the resolution of the screen; returns its context and its size in CSS pixels. */
function cleared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  const [fineWidth, fineHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== fineWidth || canvas.height !== fineHeight) Object.assign(canvas, { width: fineWidth, height: fineHeight });
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** The size in pixels of the side of a motion's box, which fits into the view at every angle. */
function sizeIn(width, height, [x, y, z]) {
  return Math.min((0.95 * width) / (2 * Math.hypot(x, y) || 1), (0.9 * height) / (2 * z + 2 * Math.hypot(x, y) * Math.sin(TILT) || 1));
}

/** Position of a point on the screen: rotated about the vertical axis, seen from the front, slightly from above. */
function projected([x, y, z], { width, height, size, turn }) {
  const angle = (turn * Math.PI) / 180;
  const across = -(x * Math.cos(angle) - y * Math.sin(angle));
  const near = x * Math.sin(angle) + y * Math.cos(angle);
  return [width / 2 + across * size, height / 2 - (z * Math.cos(TILT) - near * Math.sin(TILT)) * size];
}

/** A joint relative to the centre of the box, in units of its side; interpolated linearly between frames. */
function jointAt(motion, joints, person, joint, time) {
  if (!motion.points) motion.points = bytes(motion.data);
  const frame = Math.floor(time);
  const later = Math.min(frame + 1, motion.frames - 1);
  const start = (at) => ((person * motion.frames + at) * joints + joint) * 3;
  return motion.centre.map((centre, axis) => {
    const [a, b] = [motion.points[start(frame) + axis], motion.points[start(later) + axis]];
    return (a + (time - frame) * (b - a)) / 255 - centre;
  });
}

function line(pen, from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function drawFloor(pen, motion, view) {
  const end = Math.hypot(motion.centre[0], motion.centre[1]) * 0.9;
  const spot = (x, y) => projected([x, y, -motion.centre[2]], view);
  pen.strokeStyle = "#d3d9e0";
  pen.lineWidth = 1;
  for (const at of [-end, -end / 2, 0, end / 2, end]) {
    line(pen, spot(at, -end), spot(at, end));
    line(pen, spot(-end, at), spot(end, at));
  }
}

/** From light yellow to dark blue; lightness differs, also in print and with colour blindness. */
function colour(strength) {
  const [from, to] = [[255, 234, 70], [0, 34, 78]];
  return `rgb(${from.map((low, i) => Math.round(low + strength * (to[i] - low))).join(" ")})`;
}

/** Draws a motion at a time in frames; `strength` (joint to [0, 1]) replaces the colours of the sides. */
function drawMotion(canvas, motion, body, time, turn, strength) {
  const { pen, width, height } = cleared(canvas);
  if (!motion || !motion.data) return;
  const size = sizeIn(width, height, motion.centre);
  const view = { width, height, size, turn };
  const scale = size / 420;
  const side = (joint) => SIDES[body.joints[joint].split("_")[0]] || SIDES.middle;
  drawFloor(pen, motion, view);
  pen.lineCap = "round";
  for (let person = 0; person < motion.persons; person += 1) {
    const at = body.joints.map((_, joint) => projected(jointAt(motion, body.joints.length, person, joint, time), view));
    pen.lineWidth = 7 * scale;
    for (const [child, parent] of body.bones) {
      pen.strokeStyle = strength ? "#9aa5b1" : side(child);
      line(pen, at[child], at[parent]);
    }
    at.forEach((spot, joint) => {
      const radius = body.joints[joint] === "head" ? 15 : 5;
      pen.beginPath();
      pen.arc(...spot, scale * (strength ? 5 + 17 * strength(joint) : radius), 0, 2 * Math.PI);
      pen.fillStyle = strength ? colour(strength(joint)) : side(joint);
      pen.fill();
      if (!strength) return;
      pen.lineWidth = 1;
      pen.strokeStyle = "#1f2933";
      pen.stroke();
    });
  }
}
