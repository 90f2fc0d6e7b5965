// Argument words that take more than one slot.

/** The two words of a float64. */
export function f64Words(value: number): [low: number, high: number] {
  const words = new Uint32Array(Float64Array.of(value).buffer);
  return [words[0], words[1]];
}
