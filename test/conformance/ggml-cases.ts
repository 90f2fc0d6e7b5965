// Matrices that block quantizers are compared on: bell-shaped, heavy-tailed and degenerate ones, and the importance
// weights that go with them. Deterministic.

/** Uniform numbers in (0, 1). */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
}

/** Standard normal numbers. */
function gaussian(random: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
}

export function matrixCases(rows: number, cols: number): Record<string, Float32Array> {
  const random = generator(12345);
  const normal = gaussian(random);
  const studentT3 = () => normal() / Math.sqrt((normal() ** 2 + normal() ** 2 + normal() ** 2) / 3);
  const make = (value: (i: number) => number) => Float32Array.from({ length: rows * cols }, (_, i) => value(i));
  return {
    gaussian: make(() => normal() * 0.02),
    'student t3': make(studentT3),
    'cubed gaussian': make(() => normal() ** 3),
    zeros: make(() => 0),
    'negative zeros': make(() => -0),
    'mixed zeros': make((i) => (i % 2 ? 0 : -0)),
    constant: make(() => 0.37),
    'negative constant': make(() => -0.37),
    'one spike': make((i) => (i % 256 === 77 ? 5 : 0)),
    'negative spike': make((i) => (i % 256 === 77 ? -5 : 0)),
    'spike in noise': make((i) => (i % 256 === 77 ? 5000 : normal() * 1e-3)),
    'alternating signs': make((i) => (i % 2 ? 1 : -1)),
    positive: make(() => Math.abs(normal())),
    negative: make(() => -Math.abs(normal())),
    integers: make(() => Math.round(normal() * 4)),
    halves: make(() => Math.round(normal() * 4) / 2),
    'signed powers of two': make(() => 2 ** Math.floor(random() * 40 - 20) * (random() < 0.5 ? -1 : 1)),
    sparse: make(() => (random() < 0.9 ? 0 : normal())),
    'zero blocks': make((i) => ((i >> 5) % 3 === 0 ? 0 : normal())),
    'one scale a sub-block': make((i) => normal() * 10 ** (((i >> 4) % 20) - 10)),
    'at the zero threshold': make(() => normal() * 1e-15),
    'squares underflow': make(() => normal() * 1e-20),
    'near subnormal': make(() => normal() * 1e-38),
    subnormal: make(() => normal() * 1e-40),
    'last subnormals': make(() => normal() * 1e-44),
    large: make(() => normal() * 1e12),
    'squares overflow': make(() => normal() * 1e30),
    'end of the range': make(() => normal() * 1e37),
  };
}

export function importanceCases(cols: number): Record<string, Float32Array | undefined> {
  const random = generator(777);
  const normal = gaussian(random);
  const make = (value: (i: number) => number) => Float32Array.from({ length: cols }, (_, i) => value(i));
  return {
    none: undefined,
    random: make(() => normal() ** 2),
    'with zeros': make((i) => (random() < 0.3 || (i >> 5) % 8 === 1 ? 0 : normal() ** 2)),
    'all zero': make(() => 0),
  };
}
