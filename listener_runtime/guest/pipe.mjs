// Frames on stdin and stdout: a little-endian u32 with the length, then so many bytes.
//
// Reads block the process while nothing else is to be done, which is three times as fast as
// awaiting them; only while the guest waits for a timer are they awaited, to race it. The stdin
// and stdout methods are taken before the realm is scrubbed of Deno.

import { Deno } from "./prelude.mjs";

const stdin = Deno.stdin;
const stdout = Deno.stdout;
const readSync = stdin.readSync.bind(stdin);
const read = stdin.read.bind(stdin);
const writeSync = stdout.writeSync.bind(stdout);
const encoder = new TextEncoder();
const encode = encoder.encode.bind(encoder);

let buffer = new Uint8Array(1 << 16);
let start = 0;
let end = 0;
let reading = null;

function frame() {
  if (end - start < 4) return null;
  const view = new DataView(buffer.buffer, start, 4);
  const length = view.getUint32(0, true);
  if (end - start < 4 + length) {
    reserve(4 + length);
    return null;
  }
  const payload = buffer.slice(start + 4, start + 4 + length);
  start += 4 + length;
  if (start === end) start = end = 0;
  return payload;
}

function reserve(size) {
  if (start > 0) {
    buffer.copyWithin(0, start, end);
    end -= start;
    start = 0;
  }
  if (buffer.length < size) {
    const larger = new Uint8Array(Math.max(size, 2 * buffer.length));
    larger.set(buffer.subarray(0, end));
    buffer = larger;
  }
}

function space() {
  if (buffer.length === end) reserve(end - start + (1 << 16));
  return buffer.subarray(end);
}

// The next frame, or null where stdin is closed. Only while no read is under way.
export function nextFrame() {
  for (;;) {
    const payload = frame();
    if (payload !== null) return payload;
    const count = readSync(space());
    if (count === null) return null;
    end += count;
  }
}

// The next frame, or undefined once so many milliseconds have passed, or null at the end.
export async function nextFrameWithin(milliseconds) {
  const ready = frame();
  if (ready !== null) return ready;
  let timer;
  const late = new Promise((resolve) => {
    // Not taken before: Deno loads its timers when they are first looked at.
    timer = setTimeout(() => resolve("late"), milliseconds);
  });
  try {
    for (;;) {
      if (reading === null) {
        const chunk = new Uint8Array(1 << 16);
        reading = read(chunk).then((count) => ({ count, chunk }));
      }
      const won = await Promise.race([reading, late]);
      if (won === "late") return undefined;
      if (!take(won)) return null;
      const payload = frame();
      if (payload !== null) return payload;
    }
  } finally {
    clearTimeout(timer);
  }
}

// A read that lost against a timer is still under way, and its bytes come first.
export async function settleReading() {
  while (reading !== null) {
    const ready = frame();
    if (ready !== null) return ready;
    if (!take(await reading)) return null;
  }
  return undefined;
}

function take({ count, chunk }) {
  reading = null;
  if (count === null) return false;
  reserve(end - start + count);
  buffer.set(chunk.subarray(0, count), end);
  end += count;
  return true;
}

export function send(text) {
  const bytes = encode(text);
  const out = new Uint8Array(4 + bytes.length);
  new DataView(out.buffer).setUint32(0, bytes.length, true);
  out.set(bytes, 4);
  for (let sent = 0; sent < out.length; ) sent += writeSync(out.subarray(sent));
}
