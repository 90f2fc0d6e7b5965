// Counter-based random numbers in WGSL: Threefry-2x32 with 20 rounds, the numbers of src/formats/random.ts.

const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

const rounds = Array.from({ length: 20 }, (_, round) => {
  const r = rotations[round % 8];
  const mix = `x += y; y = ((y << ${r}u) | (y >> ${32 - r}u)) ^ x;`;
  const s = (round >> 2) + 1;
  const inject = `x += key[${s % 3}]; y += key[${(s + 1) % 3}] + ${s}u;`;
  return round % 4 === 3 ? `${mix} ${inject}` : mix;
}).join('\n  ');

/**
 * `uniformOf(index) -> f32`: 24 bits × 2^-24 of element `index` of the stream (words.seed, words.stream); `uniformsOf` gives
 * those of an even index and the next.
 *
 * @param step name of an array<i32> whose first number is the step; absent: step 0
 */
export const randomSource = (step?: string) => `
fn randomBits(block: u32) -> vec2u {
  let key = array<u32, 3>(words.seed, words.stream, 0x1bd11bdau ^ words.seed ^ words.stream);
  var x = block + key[0];
  var y = key[1]${step ? ` + bitcast<u32>(${step}[0])` : ''};
  ${rounds}
  return vec2u(x, y);
}
fn uniformsOf(index: u32) -> vec2f { return vec2f(randomBits(index >> 1u) >> vec2u(8u)) * 5.9604644775390625e-8; }
fn uniformOf(index: u32) -> f32 { return uniformsOf(index)[index & 1u]; }
`;
