import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { activationBudget, openActivations } from './activations.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'subbyte-activations-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('activation stores', () => {
  it('keep chunks in memory while the budget lasts, then on disk, with the same numbers', async () => {
    const budget = activationBudget(4 * 3 * 5);
    const memory = openActivations(3, 5, budget, folder);
    const disk = openActivations(3, 5, budget, folder);
    expect([memory.onDisk, disk.onDisk]).toEqual([false, true]);
    expect(budget).toMatchObject({ used: 60, spilled: 60 });
    for (const store of [memory, disk]) {
      for (const chunk of [2, 0, 1]) await store.write(chunk, async (to) => to.fill(chunk + 0.5));
      expect([...store.read(0)]).toEqual([0.5, 0.5, 0.5, 0.5, 0.5]);
      await store.write(0, async (to) => to.fill(9));
      expect([...store.read(0)]).toEqual([9, 9, 9, 9, 9]);
      expect([...store.read(2)]).toEqual([2.5, 2.5, 2.5, 2.5, 2.5]);
    }
    memory.dispose();
    disk.dispose();
    disk.dispose();
    expect(budget).toMatchObject({ used: 0, spilled: 0, peak: 60, spilledPeak: 60 });
    expect(readdirSync(folder)).toEqual([]);
    expect(() => memory.read(0)).toThrow(/dispose/);
    // what was given back can be taken again
    const again = openActivations(1, 15, budget, folder);
    expect(again.onDisk).toBe(false);
    again.dispose();
  });

  it('name the folder that cannot be written', () => {
    expect(() => openActivations(1, 1, activationBudget(0), path.join(folder, 'none'))).toThrow(/none/);
  });
});
