// Pyodide from bytes in memory: cold, to make a snapshot, or restored from one.

import { Deno, files } from "./prelude.mjs";
import { loadPyodide } from "./pyodide.mjs";
import createModuleText from "./pyodide.asm.js" with { type: "text" };
import source wasm from "./pyodide.asm.wasm";
import stdlib from "./python_stdlib.zip" with { type: "bytes" };

const LOCK = {
  info: {
    abi_version: "2026_0",
    arch: "wasm32",
    platform: "emscripten",
    python: "3.14.2",
    version: "rowcast",
  },
  packages: {},
};

// Bytes the heap may grow to; each run sets its own (the process's flag caps them all).
export const heapLimit = { bytes: Infinity };

files.set("python_stdlib.zip", stdlib);
files.set("pyodide.asm.wasm", new Uint8Array(0));

const instantiate = WebAssembly.instantiate;

async function instantiatePrecompiled(bytes, imports) {
  if (!(bytes instanceof Uint8Array) || bytes.length !== 0) return instantiate(bytes, imports);
  const grow = imports.env.emscripten_resize_heap;
  imports.env.emscripten_resize_heap = (size) =>
    size >>> 0 > heapLimit.bytes ? 0 : grow(size);
  return { module: wasm, instance: await instantiate(wasm, imports) };
}

// As a script, not as a module: Deno parses a module's text by itself first, to see what it imports,
// which takes five times as long as V8 needs to compile it.
function compileModule() {
  const [create, failure] = Deno[Deno.internal].core.evalContext(
    createModuleText,
    "file:///image/pyodide.asm.js",
  );
  if (failure) throw failure.thrown;
  return create;
}

// Returns Pyodide's API and the Emscripten module behind it.
export async function loadInterpreter(options, snapshot) {
  let module;
  const createPyodideModule = compileModule();
  const create = async (settings) => {
    module = await createPyodideModule(settings);
    if (snapshot !== undefined) snapshot.restore(module);
    return module;
  };
  WebAssembly.instantiate = instantiatePrecompiled;
  try {
    const pyodide = await loadPyodide({
      indexURL: "image/",
      packageBaseUrl: "image/",
      lockFileContents: LOCK,
      createPyodideModule: create,
      jsglobals: {},
      stdout() {},
      stderr() {},
      ...options,
      ...(snapshot === undefined ? {} : { _loadSnapshot: snapshot.head }),
    });
    return { pyodide, module };
  } finally {
    WebAssembly.instantiate = instantiate;
  }
}
