// Takes from the JavaScript realm whatever the language itself does not need.
//
// The bridge from Python to JavaScript is closed already (guest/image.py); this is the second
// wall: a guest that found a way through it meets a realm without Deno, network, workers, storage
// or devices.

import { forgetDeno } from "./prelude.mjs";

const KEPT = new Set([
  "globalThis", "Object", "Function", "Array", "Number", "Boolean", "String", "Symbol", "BigInt",
  "Math", "JSON", "Reflect", "Proxy", "Promise", "Date", "RegExp", "Map", "Set", "WeakMap",
  "WeakSet", "WeakRef", "FinalizationRegistry", "Error", "AggregateError", "EvalError",
  "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError", "ArrayBuffer",
  "DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
  "Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array",
  "BigUint64Array", "Infinity", "NaN", "undefined", "isNaN", "isFinite", "parseInt",
  "parseFloat", "decodeURIComponent", "encodeURIComponent", "decodeURI", "encodeURI",
  "performance", "setTimeout", "clearTimeout", "queueMicrotask", "TextEncoder", "TextDecoder",
  "WebAssembly", "os", "btoa",
]);

export function scrubRealm() {
  forgetDeno();
  for (const name of Reflect.ownKeys(globalThis)) {
    if (KEPT.has(name)) continue;
    delete globalThis[name];
    if (name in globalThis && Object.hasOwn(globalThis, name)) {
      throw new Error(`the realm keeps ${String(name)}, which a guest must not find`);
    }
  }
  // Emscripten's abort() writes to it.
  const quiet = () => {};
  globalThis.console = Object.freeze({ log: quiet, warn: quiet, error: quiet, info: quiet, debug: quiet });
  // Deno's node: modules can still be imported and fail for want of a global `Deno`: a guest must
  // not be able to put one of its own there, nor where a global is looked for next.
  for (let scope = globalThis; scope !== null; scope = Object.getPrototypeOf(scope)) {
    Object.preventExtensions(scope);
  }
}
