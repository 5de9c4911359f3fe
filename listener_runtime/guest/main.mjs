// One sandbox process: runs what comes on stdin, one frame at a time, each in pristine memory
// unless the frame says that memory is kept.
//
// In:  R<header JSON>\n<events><code>  runs; the header says how many bytes the events are
//      V<JSON>                         the answer to a host call
//      Z                               put everything back, after runs that kept it
// Out: S<JSON>                         ready to start
//      G<lines of JSON>                what the guest says during a run
//      D<JSON>\n<lines of JSON>        all runs are done: what this side knows, then the guest
// The lines are made by runner.py, in the guest's own memory: whoever reads them must take them for
// forged. Any exception that reaches this file ends the process: nothing is mended here.

import "./prelude.mjs";
import { Deno } from "./prelude.mjs";
import { heapLimit, loadInterpreter } from "./interpreter.mjs";
import { nextFrame, nextFrameWithin, send, settleReading } from "./pipe.mjs";
import { installPackages, refuseNativeCode } from "./packages.mjs";
import { sealFiles } from "./filesystem.mjs";
import { Snapshot, keepMemory } from "./memory.mjs";
import { scrubRealm } from "./realm.mjs";
import snapshotBytes from "./snapshot.bin" with { type: "bytes" };

const OUTPUT_BYTES = 64 * 1024;
const RUN = 82;
const ANSWER = 86;
const RESET = 90;
const MEBIBYTE = 1024 * 1024;
const now = performance.now.bind(performance);
const decoder = new TextDecoder("utf-8", { fatal: true });
const stderr = Deno.stderr;
const encoder = new TextEncoder();
const complain = (text) => stderr.writeSync(encoder.encode(text + "\n"));
const lenient = new TextDecoder();

const snapshot = new Snapshot(snapshotBytes);
const { pyodide, module } = await loadInterpreter({}, snapshot);

let output = [];
let outputBytes = 0;
let outputLost = 0;

function capture(bytes) {
  const kept = Math.min(bytes.length, OUTPUT_BYTES - outputBytes);
  if (kept > 0) output.push(bytes.slice(0, kept));
  outputBytes += Math.max(kept, 0);
  outputLost += bytes.length - Math.max(kept, 0);
  return bytes.length;
}

pyodide.setStdout({ write: capture });
pyodide.setStderr({ write: capture });
pyodide.setStdin({ stdin: () => null });

const packages = pyodide.pyimport("_packages");
const load = packages.load.copy();
packages.destroy();
const runner = pyodide.pyimport("_runner");
runner.seal();
const start = runner.start.copy();
const answer = runner.answer.copy();
const wake = runner.wake.copy();
runner.destroy();
const modules = installPackages(module);
const resetFiles = sealFiles(module);
scrubRealm();

// A package's own code runs only now that every way out is closed; what it prints and leaves in
// files is no run's.
const notImported = load(modules ?? "[]");
load.destroy();
resetFiles();
output = [];
outputBytes = outputLost = 0;
refuseNativeCode(module);

const pristineBytes = module.HEAPU8.length;
const resetMemory = keepMemory(module, snapshot);

function reset() {
  resetMemory();
  resetFiles();
  output = [];
  outputBytes = outputLost = 0;
}

// What only this side knows of a run that has ended: what it printed, how far memory grew.
function ending() {
  const whole = new Uint8Array(outputBytes);
  let end = 0;
  for (const part of output) {
    whole.set(part, end);
    end += part.length;
  }
  return JSON.stringify({
    output: lenient.decode(whole),
    output_lost_bytes: outputLost,
    heap_bytes: module.HEAPU8.length,
  });
}

// Sends what a step of the guest gave; returns milliseconds to wait, -1 for ever, null when done.
function pass(text) {
  const cut = text.lastIndexOf("\n") + 1;
  const lines = text.slice(0, cut);
  const control = text.slice(cut);
  if (control[0] === "D") {
    send(`D${ending()}\n${lines}`);
    return null;
  }
  if (lines) send(`G${lines}`);
  return Number(control.slice(1));
}

async function next(wait) {
  if (wait >= 0) return await nextFrameWithin(wait);
  const settled = await settleReading();
  return settled === undefined ? nextFrame() : settled;
}

// Returns whether stdin is still open.
async function run(frame) {
  const headEnd = frame.indexOf(10);
  const head = decoder.decode(frame.subarray(1, headEnd));
  const { events_bytes, memory_mb, keep } = JSON.parse(head);
  const codeStart = headEnd + 1 + events_bytes;
  heapLimit.bytes = memory_mb * MEBIBYTE;
  let wait = pass(
    start(
      head,
      decoder.decode(frame.subarray(headEnd + 1, codeStart)),
      decoder.decode(frame.subarray(codeStart)),
    ),
  );
  while (wait !== null) {
    const came = await next(wait);
    if (came === null) return false;
    if (came === undefined) wait = pass(wake());
    else if (came[0] === ANSWER) wait = pass(answer(decoder.decode(came.subarray(1))));
    else throw new Error(`a frame ${came[0]} during a run`);
  }
  if (!keep) reset();
  return true;
}

const started = { heap_bytes: pristineBytes, took_ms: now(), not_imported: JSON.parse(notImported) };
send(`S${JSON.stringify(started)}`);
try {
  for (;;) {
    const frame = await next(-1);
    if (frame === null) break;
    if (frame[0] === RUN) {
      if (!(await run(frame))) break;
    } else if (frame[0] === RESET) reset();
    // A late answer to a call that nobody awaited finds nobody.
    else if (frame[0] !== ANSWER) throw new Error(`a frame ${frame[0]} that is none`);
  }
} catch (error) {
  complain(`${error?.stack ?? error}`.slice(0, 4_000));
  throw error;
}
