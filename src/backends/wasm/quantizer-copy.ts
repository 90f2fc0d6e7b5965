// Copies between ordinary and shared memory, and result arrays, at the speed of memory.
//
// TypedArray.prototype.set on a SharedArrayBuffer copies word by word with relaxed atomics, in V8 at a half to a third
// of the speed of memcpy; Node's Buffer.copy is a memcpy. A new Uint8Array is zeroed, which costs as much as filling
// it; Node can leave that out. Elsewhere the standard functions serve. Not for memory that another thread writes
// meanwhile.

const node = typeof Buffer !== 'undefined';

/** A view of all of `buffer` that copyBytes takes; make it again after a memory has grown. */
export function bytesOf(buffer: ArrayBufferLike, offset = 0, length = buffer.byteLength - offset): Uint8Array {
  return node ? Buffer.from(buffer as ArrayBuffer, offset, length) : new Uint8Array(buffer, offset, length);
}

/** Copies source[start … end) to target[at …); both are from bytesOf. */
export function copyBytes(source: Uint8Array, start: number, end: number, target: Uint8Array, at: number): void {
  if (node) (source as Buffer).copy(target, at, start, end);
  else target.set(source.subarray(start, end), at);
}

/** `length` bytes of undefined contents, in a buffer of their own: the caller overwrites all. */
export function uninitializedBytes(length: number): Uint8Array<ArrayBuffer> {
  return node && length > 0
    ? new Uint8Array(Buffer.allocUnsafeSlow(length).buffer as ArrayBuffer)
    : new Uint8Array(length);
}
