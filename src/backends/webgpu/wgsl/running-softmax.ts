// One step of a softmax over keys that come tile by tile: running maximum, running sum, weights of the tile's keys.
//
// m' = max(m, scores), sum' = sum · exp(m − m') + Σ exp(scores − m'); results so far are to be multiplied by `decay`.

/**
 * For a row that `lanes` threads share, four keys each. Reads `visible` (scores, vec4f; unseen ones the lowest number)
 * and `seen`, updates `most` and `sum` (each thread sums its own keys), declares `decay`, and leaves the weights in
 * `weights`, `stride` numbers a row. Needs the workgroup arrays `maxima` (one number a thread) and `weights`,
 * mathSource, and uniform control flow; a barrier must follow before `weights` is read.
 */
export const softmaxStep = (
  lanes: number,
  stride: number,
) => `maxima[thread] = larger(larger(visible.x, visible.y), larger(visible.z, visible.w));
    workgroupBarrier();
    var next = most;
    for (var j = 0u; j < ${lanes}u; j++) { next = larger(next, maxima[mine * ${lanes}u + j]); }
    let weight = select(
      vec4f(),
      vec4f(expOf(visible.x - next), expOf(visible.y - next), expOf(visible.z - next), expOf(visible.w - next)),
      seen);
    let decay = expOf(most - next);
    most = next;
    sum = sum * decay + ((weight.x + weight.y) + (weight.z + weight.w));
    for (var j = 0u; j < 4u; j++) { weights[mine * ${stride}u + lane + ${lanes}u * j] = weight[j]; }`;
