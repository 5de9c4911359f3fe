// The realm as Pyodide must find it, set before Pyodide's own module is evaluated.
//
// Must stay the first static import of a program: pyodide.mjs looks at its surroundings when it is
// imported. Made to believe that it runs in a bare shell, it asks only for `read`, `readbuffer`,
// `load` and `os.system`, all of which are answered here from memory, so that no file, no network
// and no Node module is ever touched.

export let Deno = globalThis.Deno;
export const files = new Map();

// A module can be imported again by whoever knows its address: what it exports is in the realm.
export function forgetDeno() {
  Deno = undefined;
}

delete globalThis.process;

function file(path) {
  const name = String(path).split("/").pop();
  const bytes = files.get(name);
  if (bytes === undefined) throw new Error(`the sandbox image holds no file ${name}`);
  return bytes;
}

globalThis.load = (path) => {
  throw new Error(`nothing is loaded inside the sandbox: ${path}`);
};
globalThis.read = (path) => new TextDecoder().decode(file(path));
globalThis.readbuffer = file;

// A finaliser would touch memory that has been put back to the snapshot since.
globalThis.FinalizationRegistry = class {
  register() {}
  unregister() {}
};

// The shell's way to random bytes: `head -c N /dev/urandom | base64`.
const randomValues = crypto.getRandomValues.bind(crypto);
globalThis.os = {
  system(_shell, argv) {
    const count = Number(/-c(\d+)/.exec(argv[1])[1]);
    return btoa(String.fromCharCode(...randomValues(new Uint8Array(count))));
  },
};
