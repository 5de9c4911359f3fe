// A tenant's packages: files put in place before the file system is sealed, native code that is
// loaded before the first run or never.
//
// packages.bin is a line of JSON, {"files": [[path, size]...], "modules": [name...]}, and then the
// files' bytes one after the other. It is empty in the standard image.

import packages from "./packages.bin" with { type: "bytes" };

const SITE = "/lib/python3.14/site-packages";

// Puts the files in place; returns the names of the modules to import, as JSON, or null for none.
export function installPackages(module) {
  if (packages.length === 0) return null;
  const FS = module.FS;
  const headEnd = packages.indexOf(10);
  const { files, modules } = JSON.parse(new TextDecoder().decode(packages.subarray(0, headEnd)));
  let at = headEnd + 1;
  for (const [path, size] of files) {
    const target = `${SITE}/${path}`;
    FS.mkdirTree(target.slice(0, target.lastIndexOf("/")));
    FS.writeFile(target, packages.subarray(at, at + size));
    at += size;
  }
  return JSON.stringify(modules);
}

// Native code that a run loads would stay in JavaScript while the memory it works on is put back
// under it, so none is loaded once runs begin, and no name of it is kept.
export function refuseNativeCode(module) {
  // Emscripten asks `instanceof` of one of them, which an arrow function cannot answer.
  function refuse() {
    throw new Error("no native code is loaded during a run");
  }
  for (const name of ["Module", "Instance", "compile", "instantiate", "validate"]) {
    Object.defineProperty(WebAssembly, name, { value: refuse, writable: false, configurable: false });
  }
  Object.freeze(WebAssembly);
  const loaded = module.LDSO.loadedLibsByName;
  module.LDSO.loadedLibsByName = new Proxy(loaded, { set: refuse, defineProperty: refuse });
}
