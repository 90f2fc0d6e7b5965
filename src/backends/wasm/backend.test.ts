import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { opCatalog } from '../../graph/catalog.ts';
import { differences, type OpCase, type Outputs, runOpCase } from '../op-case.ts';
import { opCases } from '../op-cases.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';
import { encoders } from './encoders.ts';

/** Bit patterns of all outputs, to compare runs exactly. */
const bits = (results: readonly Outputs[]) =>
  results.map((outputs) => [...outputs].map(([name, { data }]) => [name, new Uint32Array(data.buffer).join()]));

/** The case with every run twice: states aside, the second must give the same bits. */
const replayed = (opCase: OpCase): OpCase => ({ ...opCase, runs: opCase.runs.flatMap((run) => [run, run]) });

it('every op of the catalogue has an encoder', () => {
  expect([...opCatalog.keys()].filter((name) => !encoders.has(name))).toEqual([]);
});

describe('every op agrees with the reference', () => {
  const reference = createReferenceBackend();
  let one: WasmBackend;
  let two: WasmBackend;
  beforeAll(async () => {
    one = await createWasmBackend({ threads: 1 });
    two = await createWasmBackend({ threads: 2 });
  });
  afterAll(() => {
    expect(one.usedBytes).toBe(0);
    expect(two.usedBytes).toBe(0);
    one.dispose();
    two.dispose();
  });

  it.each(opCases.map((opCase) => [opCase.name, opCase] as const))('%s', async (_, opCase) => {
    const expected = await runOpCase(reference, opCase);
    const found = await runOpCase(one, opCase.accumulates ? opCase : replayed(opCase));
    const first = opCase.accumulates ? found : found.filter((_, i) => i % 2 === 0);
    const second = opCase.accumulates ? await runOpCase(one, opCase) : found.filter((_, i) => i % 2 === 1);
    expect(differences(first, expected, opCase.tolerance)).toEqual([]);
    expect(bits(second)).toEqual(bits(first));
    expect(bits(await runOpCase(two, opCase))).toEqual(bits(first));
  });
});
