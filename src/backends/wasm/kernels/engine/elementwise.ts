// Elementwise kernels: one number in, one number out, and arithmetic with broadcasting.
//
// Threads take contiguous runs of elements (or of rows, with broadcasting). Output and input may be the same memory.
// Elements that fill no whole vector go through the same vector code, so the bits do not depend on the position.

import { address, at, loadOne, real, storeOne, word } from '../common/args';
import { exp16 } from '../common/exp';
import { exp4, gelu4, geluTanh4, sigmoid4, silu4, siluOf, tanh4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';

const unit: i32 = 16;

/** The order of unaryKinds in the op declaration. */
// @ts-ignore: decorator
@inline
function unary4(kind: i32, x: v128): v128 {
  switch (kind) {
    case 0:
      return f32x4.neg(x);
    case 1:
      return exp4(x);
    case 3:
      return f32x4.sqrt(x);
    case 4:
      return f32x4.div(f32x4.splat(1), f32x4.sqrt(x));
    case 5:
      return f32x4.mul(x, x);
    case 6:
      return sigmoid4(x);
    case 7:
      return tanh4(x);
    case 8:
      return f32x4.max(x, f32x4.splat(0));
    case 9:
      return silu4(x);
    case 10:
      return gelu4(x);
    default:
      return geluTanh4(x);
  }
}

// @ts-ignore: decorator
@inline
function unaryLoop(kind: i32, x: usize, out: usize, start: i32, end: i32): void {
  let i = start;
  for (; i + 4 <= end; i += 4) v128.store(at(out, i), unary4(kind, v128.load(at(x, i))));
  for (; i < end; i++) storeOne(at(out, i), unary4(kind, loadOne(at(x, i))));
}

/** Words: kind, x, out, count. */
export function unary(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 1);
  const out = address(args, 2);
  const count = word(args, 3);
  const start = shareStart(count, unit, thread, threads);
  const end = shareEnd(count, unit, thread, threads);
  switch (word(args, 0)) {
    case 0:
      unaryLoop(0, x, out, start, end);
      return;
    case 1:
      unaryLoop(1, x, out, start, end);
      return;
    case 2:
      for (let i = start; i < end; i++) store<f32>(at(out, i), <f32>NativeMath.log(<f64>load<f32>(at(x, i))));
      return;
    case 3:
      unaryLoop(3, x, out, start, end);
      return;
    case 4:
      unaryLoop(4, x, out, start, end);
      return;
    case 5:
      unaryLoop(5, x, out, start, end);
      return;
    case 6:
      unaryLoop(6, x, out, start, end);
      return;
    case 7:
      unaryLoop(7, x, out, start, end);
      return;
    case 8:
      unaryLoop(8, x, out, start, end);
      return;
    case 9:
      unaryLoop(9, x, out, start, end);
      return;
    case 10:
      unaryLoop(10, x, out, start, end);
      return;
    case 11:
      unaryLoop(11, x, out, start, end);
      return;
    default:
      unreachable();
  }
}

/** x · scale + offset. Words: x, out, count, scale, offset. */
export function affine(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const out = address(args, 1);
  const count = word(args, 2);
  const scale = f32x4.splat(real(args, 3));
  const offset = f32x4.splat(real(args, 4));
  const end = shareEnd(count, unit, thread, threads);
  let i = shareStart(count, unit, thread, threads);
  for (; i + 4 <= end; i += 4) v128.store(at(out, i), f32x4.add(f32x4.mul(v128.load(at(x, i)), scale), offset));
  for (; i < end; i++) storeOne(at(out, i), f32x4.add(f32x4.mul(loadOne(at(x, i)), scale), offset));
}

/** silu(gate) · up of four, with e = e^−gate in `e`. */
// @ts-ignore: decorator
@inline
function gated(gate: usize, up: usize, e: usize): v128 {
  return f32x4.mul(siluOf(v128.load(gate), v128.load(e)), v128.load(up));
}

/** silu(gate) · up. Words: gate, up, out, count, scratch (64 bytes a thread). The output may be the memory of an input. */
export function swiglu(args: usize, thread: i32, threads: i32): void {
  const gate = address(args, 0);
  const up = address(args, 1);
  const out = address(args, 2);
  const count = word(args, 3);
  const end = shareEnd(count, unit, thread, threads);
  let i = shareStart(count, unit, thread, threads);
  const e = at(address(args, 4), unit * thread);
  for (; i + 16 <= end; i += 16) {
    const g = at(gate, i);
    const u = at(up, i);
    const to = at(out, i);
    exp16(
      f32x4.neg(v128.load(g)),
      f32x4.neg(v128.load(g, 16)),
      f32x4.neg(v128.load(g, 32)),
      f32x4.neg(v128.load(g, 48)),
      e,
    );
    v128.store(to, gated(g, u, e));
    v128.store(to, gated(g + 16, u + 16, e + 16), 16);
    v128.store(to, gated(g + 32, u + 32, e + 32), 32);
    v128.store(to, gated(g + 48, u + 48, e + 48), 48);
  }
  for (; i + 4 <= end; i += 4)
    v128.store(at(out, i), f32x4.mul(silu4(v128.load(at(gate, i))), v128.load(at(up, i))));
  for (; i < end; i++) storeOne(at(out, i), f32x4.mul(silu4(loadOne(at(gate, i))), loadOne(at(up, i))));
}

// @ts-ignore: decorator
@inline
function arithmetic4(kind: i32, a: v128, b: v128): v128 {
  switch (kind) {
    case 0:
      return f32x4.add(a, b);
    case 1:
      return f32x4.sub(a, b);
    case 2:
      return f32x4.mul(a, b);
    default:
      return f32x4.div(a, b);
  }
}

/** One row: `fixedA` / `fixedB` tell that the operand is one number. */
// @ts-ignore: decorator
@inline
function arithmeticRow(kind: i32, a: usize, fixedA: bool, b: usize, fixedB: bool, out: usize, count: i32): void {
  let i = 0;
  if (fixedA) {
    const x = loadOne(a);
    for (; i + 4 <= count; i += 4) v128.store(at(out, i), arithmetic4(kind, x, v128.load(at(b, i))));
    for (; i < count; i++) storeOne(at(out, i), arithmetic4(kind, x, loadOne(at(b, i))));
  } else if (fixedB) {
    const y = loadOne(b);
    for (; i + 4 <= count; i += 4) v128.store(at(out, i), arithmetic4(kind, v128.load(at(a, i)), y));
    for (; i < count; i++) storeOne(at(out, i), arithmetic4(kind, loadOne(at(a, i)), y));
  } else {
    for (; i + 4 <= count; i += 4)
      v128.store(at(out, i), arithmetic4(kind, v128.load(at(a, i)), v128.load(at(b, i))));
    for (; i < count; i++) storeOne(at(out, i), arithmetic4(kind, loadOne(at(a, i)), loadOne(at(b, i))));
  }
}

function row(kind: i32, a: usize, fixedA: bool, b: usize, fixedB: bool, out: usize, count: i32): void {
  switch (kind) {
    case 0:
      arithmeticRow(0, a, fixedA, b, fixedB, out, count);
      return;
    case 1:
      arithmeticRow(1, a, fixedA, b, fixedB, out, count);
      return;
    case 2:
      arithmeticRow(2, a, fixedA, b, fixedB, out, count);
      return;
    default:
      arithmeticRow(3, a, fixedA, b, fixedB, out, count);
  }
}

/**
 * a (+ − · /) b with broadcasting. Words: kind, a, b, out, rank, then for each dimension, outermost first: size,
 * stride of a, stride of b (elements; 0 repeats). The innermost strides are 0 or 1; the output is contiguous.
 */
export function arithmetic(args: usize, thread: i32, threads: i32): void {
  const kind = word(args, 0);
  const a = address(args, 1);
  const b = address(args, 2);
  const out = address(args, 3);
  const rank = word(args, 4);
  const inner = args + 20 + <usize>(rank - 1) * 12;
  const count = word(inner, 0);
  const fixedA = word(inner, 1) == 0;
  const fixedB = word(inner, 2) == 0;
  if (rank == 1) {
    const start = shareStart(count, unit, thread, threads);
    const end = shareEnd(count, unit, thread, threads);
    if (start < end)
      row(kind, fixedA ? a : at(a, start), fixedA, fixedB ? b : at(b, start), fixedB, at(out, start), end - start);
    return;
  }
  let rows = 1;
  for (let d = 0; d < rank - 1; d++) rows *= word(args + 20 + <usize>d * 12, 0);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    let rest = r;
    let offsetA = 0;
    let offsetB = 0;
    for (let d = rank - 2; d >= 0; d--) {
      const dimension = args + 20 + <usize>d * 12;
      const size = word(dimension, 0);
      const index = rest % size;
      rest /= size;
      offsetA += index * word(dimension, 1);
      offsetB += index * word(dimension, 2);
    }
    row(kind, at(a, offsetA), fixedA, at(b, offsetB), fixedB, at(out, r * count), count);
  }
}
