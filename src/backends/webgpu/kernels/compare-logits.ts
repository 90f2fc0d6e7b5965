// compareLogits, its gradients, and targetMask.
//
// A workgroup of 32 … 256 threads (four numbers a thread or more) computes one row of both sets of logits; every thread
// takes every threads-th number, and sums, maxima and first places are combined by halving in workgroup memory (at most
// 16 bytes a thread). targetMask: one thread a target. No features.

import { elementCount } from '../../../tensor/shape.ts';
import { targetError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { firstLargestSource, largestSource, totalSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';

const each = (threads: number, body: string) => `for (var v = thread; v < words.V; v += ${threads}u) { ${body} }`;

/** Statements that set zp and zq, the logs of the normalizers of row `item`, and the functions around them. */
function normalizers(n: Names, threads: number): string {
  return `let first = item * words.V;
  var largestP = -infinity();
  var largestQ = -infinity();
  ${each(threads, `largestP = larger(largestP, ${n.p}[first + v]); largestQ = larger(largestQ, ${n.q}[first + v]);`)}
  largestP = largest(thread, largestP);
  largestQ = largest(thread, largestQ);
  var sumP = 0.0;
  var sumQ = 0.0;
  ${each(threads, `sumP += expOf(${n.p}[first + v] - largestP); sumQ += expOf(${n.q}[first + v] - largestQ);`)}
  let zp = largestP + logOf(total(thread, sumP));
  let zq = largestQ + logOf(total(thread, sumQ));
  /* A probability of 0 adds nothing, also where its logit is -infinity. */
  var divergence = 0.0;
  ${each(threads, `divergence += expOf(${n.p}[first + v] - zp) * gap(${n.p}[first + v], zp, ${n.q}[first + v], zq);`)}
  divergence = total(thread, divergence);`;
}

const prelude = (threads: number) => `${mathSource}${largestSource(threads)}${totalSource(threads)}
/* log p - log q, 0 where p is 0 */
fn gap(p: f32, zp: f32, q: f32, zq: f32) -> f32 {
  return select((p - zp) - (q - zq), 0.0, bitcast<u32>(p) == 0xff800000u);
}
`;

const compareLogits: OpKernel = {
  encode({ inputs, outputs }) {
    const [p, q, targets, y] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [N, V] = p.shape;
    const threads = rowThreads(V);
    const best = (source: string) => `place = nowhere;
  ${each(threads, `let next = placed(${source}[first + v], v); if (isBefore(next, place)) { place = next; }`)}
  place = firstLargest(thread, place);`;
    // As in the reference, a NaN in the first place is the maximum: nothing is larger.
    const index = (source: string) => `select(place.y, 0u, isNan(${source}[first]))`;
    const body = (n: Names) => `${normalizers(n, threads)}
  var place = nowhere;
  ${best(n.p)}
  let placeP = ${index(n.p)};
  ${best(n.q)}
  let placeQ = ${index(n.q)};
  if (thread == 0u) {
    let id = ${n.targets}[item];
    let counts = id >= 0 && u32(id) < words.V;
    if (id >= 0 && !counts) { report(${targetError}u, id); }
    let at = first + u32(select(0, id, counts));
    ${n.y}[item * 4u] = select(0.0, zp - ${n.p}[at], counts);
    ${n.y}[item * 4u + 1u] = select(0.0, zq - ${n.q}[at], counts);
    ${n.y}[item * 4u + 2u] = divergence;
    ${n.y}[item * 4u + 3u] = select(0.0, 1.0, placeP == placeQ);
  }`;
    return [
      {
        bindings: { p: read(p), q: read(q), targets: read(targets), y: write(y) },
        words: { V },
        reports: true,
        ...forEachGroup(N, threads, body, prelude(threads) + firstLargestSource(threads)),
      },
    ];
  },
};

const compareLogitsBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [p, q, targets, dy] = inputs.map((_, i) => dense(inputs, i));
    const [dp, dq] = [dense(outputs, 0), dense(outputs, 1)];
    const [N, V] = p.shape;
    const threads = rowThreads(V);
    const body = (n: Names) => `${normalizers(n, threads)}
  let id = ${n.targets}[item];
  let nllP = select(${n.dy}[item * 4u], 0.0, id < 0);
  let nllQ = select(${n.dy}[item * 4u + 1u], 0.0, id < 0);
  let kl = ${n.dy}[item * 4u + 2u];
  ${each(
    threads,
    `let lp = ${n.p}[first + v];
    let lq = ${n.q}[first + v];
    let probP = expOf(lp - zp);
    let probQ = expOf(lq - zq);
    let hit = select(0.0, 1.0, i32(v) == id);
    ${n.dp}[first + v] = nllP * (probP - hit) + kl * probP * (gap(lp, zp, lq, zq) - divergence);
    ${n.dq}[first + v] = nllQ * (probQ - hit) + kl * (probQ - probP);`,
  )}`;
    return [
      {
        bindings: { p: read(p), q: read(q), targets: read(targets), dy: read(dy), dp: write(dp), dq: write(dq) },
        words: { V },
        ...forEachGroup(N, threads, body, prelude(threads)),
      },
    ];
  },
};

const targetMask: OpKernel = {
  encode({ inputs, outputs }) {
    const [targets, mask] = [dense(inputs, 0), dense(outputs, 0)];
    const body = (n: Names) => `${n.mask}[i] = select(0.0, 1.0, ${n.targets}[i] >= 0);`;
    return [
      {
        bindings: { targets: read(targets), mask: write(mask) },
        ...forEachItem(elementCount(mask.shape), body),
      },
    ];
  },
};

export const compareLogitsKernels: KernelTable = { compareLogits, compareLogitsBackward, targetMask };
