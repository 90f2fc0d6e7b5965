// Gradients of unary and swiglu. The first result may lie on any operand's memory: every vector is read from all
// operands before its place is written. Elements that fill no whole vector go through the same vector code.

import { address, at, loadOne, storeOne, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { decay4, geluSlope4, geluTanhSlope4, sigmoidSlope4, siluSlope, siluSlope4, tanhSlope4 } from '../common/slopes';
import { exp4 } from '../common/math';

const unit: i32 = 16;

/** kind′(x) · dy, in the order of unaryKinds in the op declaration. */
// @ts-ignore: decorator
@inline
function gradient4(kind: i32, x: v128, dy: v128): v128 {
  const root = f32x4.sqrt(x);
  switch (kind) {
    case 0:
      return f32x4.neg(dy);
    case 1:
      return f32x4.mul(exp4(x), dy);
    case 2:
      return f32x4.div(dy, x);
    case 3:
      return f32x4.mul(f32x4.div(f32x4.splat(0.5), root), dy);
    case 4:
      return f32x4.mul(f32x4.div(f32x4.splat(-0.5), f32x4.mul(x, root)), dy);
    case 5:
      return f32x4.mul(f32x4.add(x, x), dy);
    case 6:
      return f32x4.mul(sigmoidSlope4(x), dy);
    case 7:
      return f32x4.mul(tanhSlope4(x), dy);
    case 8:
      return v128.and(dy, f32x4.gt(x, f32x4.splat(0)));
    case 9:
      return f32x4.mul(siluSlope4(x), dy);
    case 10:
      return f32x4.mul(geluSlope4(x), dy);
    default:
      return f32x4.mul(geluTanhSlope4(x), dy);
  }
}

// @ts-ignore: decorator
@inline
function gradientLoop(kind: i32, x: usize, dy: usize, dx: usize, start: i32, end: i32): void {
  let i = start;
  for (; i + 4 <= end; i += 4) v128.store(at(dx, i), gradient4(kind, v128.load(at(x, i)), v128.load(at(dy, i))));
  for (; i < end; i++) storeOne(at(dx, i), gradient4(kind, loadOne(at(x, i)), loadOne(at(dy, i))));
}

/** Words: kind, x, dy, dx, count. */
export function unaryBackward(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 1);
  const dy = address(args, 2);
  const dx = address(args, 3);
  const count = word(args, 4);
  const start = shareStart(count, unit, thread, threads);
  const end = shareEnd(count, unit, thread, threads);
  // A constant kind in every call lets the compiler drop the switch from the loop.
  switch (word(args, 0)) {
    case 0:
      gradientLoop(0, x, dy, dx, start, end);
      return;
    case 1:
      gradientLoop(1, x, dy, dx, start, end);
      return;
    case 2:
      gradientLoop(2, x, dy, dx, start, end);
      return;
    case 3:
      gradientLoop(3, x, dy, dx, start, end);
      return;
    case 4:
      gradientLoop(4, x, dy, dx, start, end);
      return;
    case 5:
      gradientLoop(5, x, dy, dx, start, end);
      return;
    case 6:
      gradientLoop(6, x, dy, dx, start, end);
      return;
    case 7:
      gradientLoop(7, x, dy, dx, start, end);
      return;
    case 8:
      gradientLoop(8, x, dy, dx, start, end);
      return;
    case 9:
      gradientLoop(9, x, dy, dx, start, end);
      return;
    case 10:
      gradientLoop(10, x, dy, dx, start, end);
      return;
    case 11:
      gradientLoop(11, x, dy, dx, start, end);
      return;
    default:
      unreachable();
  }
}

/** Both gradients of silu(gate) · up: silu′(gate) · up · dy and silu(gate) · dy, from one exponential. */
// @ts-ignore: decorator
@inline
function swiglu4(gate: v128, up: v128, dy: v128, dgate: usize, dup: usize, single: bool): void {
  const one = f32x4.splat(1);
  const e = decay4(gate);
  const d = f32x4.div(one, f32x4.add(one, e));
  const rest = f32x4.mul(e, d);
  const positive = f32x4.gt(gate, f32x4.splat(0));
  const on = v128.bitselect(d, rest, positive);
  const slope = siluSlope(gate, on, v128.bitselect(rest, d, positive));
  const toGate = f32x4.mul(f32x4.mul(slope, up), dy);
  const toUp = f32x4.mul(f32x4.mul(gate, on), dy);
  if (single) {
    storeOne(dgate, toGate);
    storeOne(dup, toUp);
  } else {
    v128.store(dgate, toGate);
    v128.store(dup, toUp);
  }
}

/** Words: gate, up, dy, dgate, dup, count. */
export function swigluBackward(args: usize, thread: i32, threads: i32): void {
  const gate = address(args, 0);
  const up = address(args, 1);
  const dy = address(args, 2);
  const dgate = address(args, 3);
  const dup = address(args, 4);
  const count = word(args, 5);
  const end = shareEnd(count, unit, thread, threads);
  let i = shareStart(count, unit, thread, threads);
  for (; i + 4 <= end; i += 4)
    swiglu4(v128.load(at(gate, i)), v128.load(at(up, i)), v128.load(at(dy, i)), at(dgate, i), at(dup, i), false);
  for (; i < end; i++)
    swiglu4(loadOne(at(gate, i)), loadOne(at(up, i)), loadOne(at(dy, i)), at(dgate, i), at(dup, i), true);
}
