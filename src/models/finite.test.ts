import { expect, it } from 'vitest';
import { bf16Bits, f16Bits } from '../formats/bits.ts';
import { qtensor } from '../tensor/tensor.ts';
import { firstNonFinite } from './finite.ts';

const bad = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
const largest = { bf16: 3.3895313892515355e38, f16: 65504 };

for (const name of ['bf16', 'f16'] as const) {
  const bits = name === 'bf16' ? bf16Bits : f16Bits;
  const make = (values: number[]) =>
    qtensor([1, values.length], {
      format: { kind: 'float', name },
      rows: 1,
      cols: values.length,
      codes: new Uint8Array(Uint16Array.from(values, bits).buffer),
      scales: new Uint8Array(0),
      zeroPoints: undefined,
      tensorScale: 1,
    });

  it(`${name}: finds the first value that is not finite, wherever it stands`, () => {
    for (const length of [1, 2, 3, 7, 16_384, 16_385, 40_001])
      for (const at of new Set([0, 1, length >> 1, length - 2, length - 1].filter((i) => i >= 0 && i < length)))
        for (const value of bad) {
          const values = Array.from({ length }, (_, i) =>
            i % 3 === 0 ? -largest[name] : i % 3 === 1 ? largest[name] : -0,
          );
          expect(firstNonFinite(make(values))).toBe(-1);
          values[at] = value;
          values[length - 1] = at === length - 1 ? value : Number.NaN;
          expect(firstNonFinite(make(values))).toBe(at);
        }
  });
}
