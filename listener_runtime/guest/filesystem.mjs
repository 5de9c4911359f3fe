// The guest's files: the image's own are read-only, /tmp and /home/pyodide are small and emptied.
//
// Emscripten keeps files in JavaScript, out of reach of the memory that is put back after a run,
// so everything a guest can change there is sealed or put back by hand: nodes, descriptors, the
// working directory, device entries, mounts.

const QUOTA_BYTES = 32 * 1024 * 1024;
const WRITABLE = ["/tmp", "/home/pyodide"];
const HOME = "/home/pyodide";
const EROFS = 69;
const ENOSPC = 51;
const ENFILE = 52;

// Seals the file system of a module; returns the function that puts it back.
export function sealFiles(module) {
  const FS = module.FS;
  const MEMFS = FS.filesystems.MEMFS;
  const devices = FS.lookupPath("/dev").node;
  let used = 0;

  // Pipes live in JavaScript's heap, which no limit of ours bounds.
  module.PIPEFS.createPipe = () => {
    throw new FS.ErrnoError(ENFILE);
  };

  const stream = MEMFS.ops_table.file.stream;
  const write = stream.write;
  stream.write = (open, bytes, offset, length, position, canOwn) => {
    const size = Math.max(open.node.usedBytes, position + length);
    const more = size - open.node.usedBytes;
    if (size > QUOTA_BYTES || used + more > QUOTA_BYTES) throw new FS.ErrnoError(ENOSPC);
    used += more;
    return write(open, bytes, offset, length, position, canOwn);
  };
  const resize = MEMFS.resizeFileStorage;
  MEMFS.resizeFileStorage = (node, size) => {
    const more = size - node.usedBytes;
    if (size > QUOTA_BYTES || used + more > QUOTA_BYTES) throw new FS.ErrnoError(ENOSPC);
    used += more;
    return resize(node, size);
  };

  const refuse = () => {
    throw new FS.ErrnoError(EROFS);
  };
  const seal = (node) => {
    // Pyodide itself makes /dev/capture_stderr when an exception reaches JavaScript.
    if (node === devices || node.mount !== FS.root.mount) return;
    const isFolder = FS.isDir(node.mode);
    node.node_ops = {
      ...node.node_ops,
      setattr: refuse,
      ...(isFolder
        ? { mknod: refuse, rename: refuse, unlink: refuse, rmdir: refuse, symlink: refuse }
        : {}),
    };
    if (FS.isFile(node.mode)) {
      node.stream_ops = { ...node.stream_ops, write: refuse, allocate: refuse, msync: refuse };
    }
    if (!isFolder) return;
    for (const child of Object.values(node.contents)) if (!FS.isMountpoint(child)) seal(child);
  };

  for (const folder of WRITABLE) {
    if (!FS.analyzePath(folder).exists) FS.mkdirTree(folder);
    FS.mount(MEMFS, {}, folder);
  }
  FS.chdir(HOME);
  seal(FS.root);

  const ownDevices = new Set(Object.keys(devices.contents));
  const ownStreams = FS.streams.map(
    (open) => open && { open, flags: open.flags, position: open.position, node: open.node, ops: open.stream_ops },
  );

  return function resetFiles() {
    for (const [fd, open] of FS.streams.entries()) {
      if (open && open !== ownStreams[fd]?.open) closeQuietly(FS, open);
    }
    FS.streams.length = ownStreams.length;
    for (const [fd, own] of ownStreams.entries()) {
      if (!own) {
        FS.streams[fd] = own;
        continue;
      }
      const { open, flags, position, node, ops } = own;
      Object.assign(open, { fd, flags, position, node, stream_ops: ops });
      FS.streams[fd] = open;
    }
    for (const name of Object.keys(devices.contents)) {
      if (ownDevices.has(name)) continue;
      FS.destroyNode(devices.contents[name]);
      delete devices.contents[name];
    }
    FS.currentPath = HOME;
    for (const folder of WRITABLE) {
      FS.unmount(folder);
      FS.mount(MEMFS, {}, folder);
    }
    used = 0;
  };
}

function closeQuietly(FS, open) {
  try {
    FS.close(open);
  } catch {
    // Its node is gone with its mount.
  }
}
