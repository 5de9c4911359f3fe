// Makes the snapshot that every sandbox process starts from, and writes it to stdout.
//
// Runs without permissions, as the sandbox does. The modules that listeners import most are
// imported here, so that importing them costs a run nothing; built-in modules that reach memory,
// processes or JavaScript are hidden first.

import "./prelude.mjs";
import { Deno } from "./prelude.mjs";
import { loadInterpreter } from "./interpreter.mjs";
import { usedParts } from "./memory.mjs";
import runnerSource from "./runner.py" with { type: "text" };
import guestSource from "./guest.py" with { type: "text" };
import packagesSource from "./packages.py" with { type: "text" };

const HIDDEN = new Set([
  "_pyodide_core", "_ctypes", "_testcapi", "_testinternalcapi", "_testlimitedcapi", "_testclinic",
  "_testclinic_limited", "_testbuffer", "_xxtestfuzz", "xxsubtype", "_remote_debugging",
  "_posixsubprocess",
]);

const PREPARE = `
import sys, types

def _define(name, source):
    module = types.ModuleType(name)
    module.__file__ = name + ".py"
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), module.__dict__)

import asyncio, base64, bisect, calendar, collections, contextlib, copy, csv, dataclasses, datetime
import decimal, difflib, enum, fractions, functools, hashlib, heapq, hmac, html, inspect, io
import itertools, json, linecache, math, operator, os, random, re, secrets, statistics, string
import struct, textwrap, time, traceback, typing, unicodedata, urllib.parse, uuid, zoneinfo
import _testinternalcapi
_testinternalcapi.clear_extension("_pyodide_core", "_pyodide_core")
`;

const { pyodide, module } = await loadInterpreter({ _makeSnapshot: true });

const space = pyodide.runPython("{}");
pyodide.runPython(PREPARE, { globals: space });
const define = space.get("_define");
define("_runner", runnerSource);
define("_guest", guestSource);
define("_packages", packagesSource);
// What editors import for its types is the real thing here.
define("rowcast_guest", "from _guest import *\nfrom typing import Any as Event\n");
define.destroy();
pyodide.runPython("sys.modules['_runner']._guest = sys.modules['_guest']", { globals: space });
pyodide.runPython("del sys.modules['_testinternalcapi']\nimport gc\ngc.collect()\ngc.freeze()", { globals: space });
space.destroy();
hideBuiltins(module, HIDDEN);

const snapshot = pyodide.makeMemorySnapshot();
const memoryStart = new DataView(snapshot.buffer).getUint32(4, true);
const parts = usedParts(module);
const layout = { head_bytes: memoryStart, memory_bytes: snapshot.length - memoryStart, parts };
write(new TextEncoder().encode(JSON.stringify(layout) + "\n"));
write(snapshot.subarray(0, memoryStart));
for (const [start, end] of parts) write(snapshot.subarray(memoryStart + start, memoryStart + end));
Deno.exit(0);

function write(bytes) {
  for (let sent = 0; sent < bytes.length; ) sent += Deno.stdout.writeSync(bytes.subarray(sent));
}

// Blanks names in CPython's table of built-in modules, of which there are two copies.
function hideBuiltins(module, hidden) {
  const heap = module.HEAPU32;
  const entries = [];
  for (let at = heap[module._PyImport_Inittab >> 2] >> 2; heap[at]; at += 2) {
    entries.push([heap[at], heap[at + 1], module.UTF8ToString(heap[at])]);
  }
  const first = entries[0][0];
  let copies = 0;
  for (let at = heap.indexOf(first); at >= 0; at = heap.indexOf(first, at + 1)) {
    const same = entries.every(
      ([name, init], index) => heap[at + 2 * index] === name && heap[at + 2 * index + 1] === init,
    );
    if (!same) continue;
    copies += 1;
    entries.forEach(([name, , text], index) => {
      if (hidden.has(text)) heap[at + 2 * index] = name + text.length;
    });
  }
  if (copies === 0) throw new Error("CPython's table of built-in modules was not found");
}
