// Counter-based random numbers in WGSL: Threefry-2x32 with 20 rounds, the numbers of src/formats/random.ts.

const rotations = [13, 15, 26, 6, 17, 29, 16, 24];

const rounds = Array.from({ length: 20 }, (_, round) => {
  const r = rotations[round % 8];
  const mix = `x += y; y = ((y << ${r}u) | (y >> ${32 - r}u)) ^ x;`;
  const s = (round >> 2) + 1;
  const inject = `x += key[${s % 3}]; y += key[${(s + 1) % 3}] + ${s}u;`;
  return round % 4 === 3 ? `${mix} ${inject}` : mix;
}).join('\n  ');

/** `uniformOf(index) -> f32`: 24 bits × 2^-24 of element `index` of the stream (words.seed, words.stream). */
export const randomSource = `
fn uniformOf(index: u32) -> f32 {
  let key = array<u32, 3>(words.seed, words.stream, 0x1bd11bdau ^ words.seed ^ words.stream);
  var x = (index >> 1u) + key[0];
  var y = key[1];
  ${rounds}
  return f32(select(x, y, (index & 1u) == 1u) >> 8u) * 5.9604644775390625e-8;
}
`;
