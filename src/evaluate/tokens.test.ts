import { describe, expect, it } from 'vitest';
import { encodeText, planWindows } from './tokens.ts';

/** One token a code point. */
const codePoints = (text: string) => Array.from(text, (c) => c.codePointAt(0)!);

describe('encodeText', () => {
  it('calls the tokenizer with chunks of 1,000,000 code points, pairs of surrogates whole', () => {
    const text = `${'😀'.repeat(600_000)}${'a'.repeat(900_000)}`;
    const lengths: number[] = [];
    const ids = encodeText(
      (part) => {
        lengths.push(Array.from(part).length);
        return codePoints(part);
      },
      text,
      Number.POSITIVE_INFINITY,
    );
    expect(lengths).toEqual([1_000_000, 500_000]);
    expect(ids.length).toBe(1_500_000);
    expect(ids[599_999]).toBe(0x1f600);
    expect(ids[600_000]).toBe(97);
  });

  it('stops at the limit and does not tokenize what is not needed', () => {
    let calls = 0;
    const encode = (part: string) => {
      calls++;
      return codePoints(part);
    };
    const ids = encodeText(encode, 'b'.repeat(3_000_000), 5);
    expect([...ids]).toEqual([98, 98, 98, 98, 98]);
    expect(calls).toBe(1);
  });

  it('gives nothing for nothing', () => {
    expect(encodeText(codePoints, '', 10).length).toBe(0);
  });
});

describe('planWindows', () => {
  it('cuts windows that predict all but their first token, and fills the last batch with ignored rows', () => {
    const tokens = Int32Array.from({ length: 14 }, (_, i) => i);
    const plan = planWindows(tokens, 20, { window: 4, batch: 2 });
    expect(plan.windows).toBe(3); // 12 and 13 are left over
    const [first, second] = [...plan.batches()];
    expect([...first.ids]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect([...first.targets]).toEqual([1, 2, 3, -1, 5, 6, 7, -1]);
    expect(first.predicted).toBe(6);
    expect([...second.ids]).toEqual([8, 9, 10, 11, 0, 0, 0, 0]);
    expect([...second.targets]).toEqual([9, 10, 11, -1, -1, -1, -1, -1]);
    expect(second.predicted).toBe(3);
  });

  it('makes one short window of a short text', () => {
    const plan = planWindows(Int32Array.of(1, 2, 3), 20);
    expect([plan.window, plan.windows, plan.batch]).toEqual([3, 1, 1]);
  });

  it('refuses too little text, a wrong window and foreign ids', () => {
    expect(() => planWindows(Int32Array.of(1), 20)).toThrow(/too short.*got 1 tokens/);
    expect(() => planWindows(Int32Array.of(1, 2), 20, { window: 1 })).toThrow(/wrong window, got 1/);
    expect(() => planWindows(Int32Array.of(1, 20), 20)).toThrow(/token 1 is outside the vocabulary, got 20/);
  });
});
