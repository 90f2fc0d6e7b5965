// Counter-based random numbers in WGSL: Threefry-2x32, the numbers of src/formats/random.ts.

const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

/** Text of the first `count` rounds. */
const roundsSource = (count: number) =>
  Array.from({ length: count }, (_, round) => {
    const r = rotations[round % 8];
    const mix = `x += y; y = ((y << ${r}u) | (y >> ${32 - r}u)) ^ x;`;
    const s = (round >> 2) + 1;
    const inject = `x += key[${s % 3}]; y += key[${(s + 1) % 3}] + ${s}u;`;
    return round % 4 === 3 ? `${mix} ${inject}` : mix;
  }).join('\n  ');

/**
 * `uniformOf(index) -> f32`: the number that rounds element `index` of the stream (words.seed, words.stream), from 16 bits;
 * `uniformsOf(index) -> vec4f` gives those of four elements from a multiple of four on, `halvesOf(index) -> vec4u` their bits.
 *
 * `randomBits(block) -> vec2u`: the words of a block, after `rounds` rounds: 13 for the others (roundingSource).
 *
 * @param step name of an array<i32> whose first number is the step; absent: step 0
 */
export const randomSource = (step?: string, rounds = 13) => `
fn randomBits(block: u32) -> vec2u {
  let key = array<u32, 3>(words.seed, words.stream, 0x1bd11bdau ^ words.seed ^ words.stream);
  var x = block + key[0];
  var y = key[1]${step ? ` + bitcast<u32>(${step}[0])` : ''};
  ${roundsSource(rounds)}
  return vec2u(x, y);
}
fn halvesOf(index: u32) -> vec4u {
  let bits = randomBits(index >> 2u);
  return (bits.xxyy >> vec4u(0u, 16u, 0u, 16u)) & vec4u(0xffffu);
}
fn uniformsOf(index: u32) -> vec4f { return vec4f(halvesOf(index)) * 1.52587890625e-5 + 7.62939453125e-6; }
fn uniformOf(index: u32) -> f32 { return uniformsOf(index)[index & 3u]; }
`;
