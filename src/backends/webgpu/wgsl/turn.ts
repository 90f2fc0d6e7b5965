// The block Hadamard transform of 32 values that a thread holds, v0 … v7: vec4f, and of blocks that several threads hold.
//
// Butterflies at distance 1, 2, 4, …, then one product: the sums of kernels/hadamard.ts in their order, so that the bits
// are the same. Values are variables with names, not an array, so that they stay in registers whatever the compiler does
// with loops.

/** Vectors of four that a thread holds. */
export const heldVectors = 8;
export const heldValues = 4 * heldVectors;

const vectors = Array.from({ length: heldVectors }, (_, j) => j);

/** `text` for each of the vectors v0 … v7. */
export const eachVector = (text: (v: string, j: number) => string): string =>
  vectors.map((j) => text(`v${j}`, j)).join('\n  ');

/** Declares `turnFour`: distances 1 and 2. */
export const turnSource = `
fn turnFour(v: vec4f) -> vec4f {
  let first = vec4f(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
  return vec4f(first.x + first.z, first.y + first.w, first.x - first.z, first.y - first.w);
}
`;

/** The transform's sums at distances below 32 in blocks of `blockSize` (4 or more). */
function turnHeld(blockSize: number): string {
  const steps = [eachVector((v) => `${v} = turnFour(${v});`)];
  for (let half = 1; half < heldVectors && 4 * half < blockSize; half *= 2)
    for (const j of vectors.filter((i) => (i & half) === 0))
      steps.push(`{ let u = v${j}; let w = v${j + half}; v${j} = u + w; v${j + half} = u - w; }`);
  return steps.join('\n  ');
}

/** Sums at distance 32 · half: each thread adds what its neighbour `half` away holds, through workgroup memory. */
function exchange(half: number, tile: string, slot: (thread: string) => string, again: boolean): string {
  const places = (base: string, j: number) => [0, 1, 2, 3].map((k) => `${tile}[${base} + ${4 * j + k}u]`);
  return `${again ? 'workgroupBarrier();' : ''}
  {
    let own = ${slot('thread')};
    ${eachVector((v, j) =>
      places('own', j)
        .map((place, k) => `${place} = ${v}.${'xyzw'[k]};`)
        .join(' '),
    )}
  }
  workgroupBarrier();
  {
    let other = ${slot(`(thread ^ ${half}u)`)};
    let upper = (thread & ${half}u) != 0u;
    ${eachVector((v, j) => `{ let o = vec4f(${places('other', j).join(', ')}); ${v} = select(${v} + o, o - ${v}, upper); }`)}
  }`;
}

/**
 * Statements that transform v0 … v7 in blocks of `blockSize` (a power of two from 4 on), all but the last product. Blocks
 * longer than 32 are held by threads next to each other; every thread of the workgroup runs them.
 *
 * @param tile name of a workgroup array<f32> in which only thread t still reads slot(t) … slot(t) + 31
 */
export function turnStatements(blockSize: number, tile: string, slot: (thread: string) => string): string {
  const steps = [turnHeld(blockSize)];
  for (let half = 1; half * heldValues < blockSize; half *= 2) steps.push(exchange(half, tile, slot, half > 1));
  return steps.join('\n  ');
}
