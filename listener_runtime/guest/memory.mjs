// The guest's memory: as the snapshot holds it, and as it is put back after a run.
//
// Emscripten lays it out as static data, the stack (which grows downwards), the heap up to the
// break, and nothing. Only what is in use is kept and copied, which is little more than half; the
// rest of the stack and what is beyond the break is zero.

// Where there is anything: [start, end) each, in order.
export function usedParts(module) {
  return [
    [0, module._emscripten_stack_get_end()],
    [module.stackSave(), module._sbrk(0)],
  ];
}

// A snapshot file: a line of JSON that says how it is laid out, Pyodide's own head, the parts.
export class Snapshot {
  #bytes;
  #layout;

  constructor(bytes) {
    const lineEnd = bytes.indexOf(10);
    this.#layout = JSON.parse(new TextDecoder().decode(bytes.subarray(0, lineEnd)));
    this.#bytes = bytes.subarray(lineEnd + 1);
  }

  // What Pyodide is given: no memory, which it then copies none of.
  get head() {
    return this.#bytes.slice(0, this.#layout.head_bytes);
  }

  // Fills the memory of a new module.
  restore(module) {
    const { head_bytes, memory_bytes, parts } = this.#layout;
    if (module.HEAPU8.length < memory_bytes) module.growMemory(memory_bytes);
    const heap = module.HEAPU8;
    let at = head_bytes;
    for (const [start, end] of parts) {
      heap.set(this.#bytes.subarray(at, at + end - start), start);
      at += end - start;
    }
  }

  // Its storage, which holds nothing that is needed once memory is restored.
  release() {
    const bytes = this.#bytes;
    this.#bytes = null;
    return bytes;
  }
}

// Keeps memory as it is now; returns the function that puts it back.
export function keepMemory(module, snapshot) {
  const [[, stackEnd], [stackTop, heapEnd]] = usedParts(module);
  const size = stackEnd + heapEnd - stackTop;
  const storage = snapshot.release();
  // Storage that is in use already costs no fresh pages.
  const kept = storage.length >= size ? storage.subarray(0, size) : new Uint8Array(size);
  const below = kept.subarray(0, stackEnd);
  const above = kept.subarray(stackEnd);
  below.set(module.HEAPU8.subarray(0, stackEnd));
  above.set(module.HEAPU8.subarray(stackTop, heapEnd));
  return () => {
    // Views are replaced when memory grows; memory itself never shrinks.
    const heap = module.HEAPU8;
    heap.set(below);
    heap.fill(0, stackEnd, stackTop);
    heap.set(above, stackTop);
    heap.fill(0, heapEnd);
    module.stackRestore(stackTop);
  };
}
