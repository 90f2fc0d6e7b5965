import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fillKernel } from './kernel-ids.ts';
import { createPool, type Pool } from './pool.ts';

describe.each([1, 2, 3])('a pool of %i threads', (threads) => {
  let pool: Pool;
  beforeAll(async () => {
    pool = await createPool('engine', { threads });
  });
  afterAll(() => pool.dispose());

  /** A program that fills `count` words with each of `values` in turn, in places behind each other. */
  const fillProgram = (target: number, count: number, values: number[]): number => {
    const program = pool.allocator.allocate(values.length * 8);
    const args = pool.allocator.allocate(values.length * 12);
    const words = new Uint32Array(pool.memory.buffer);
    values.forEach((value, i) => {
      words.set([fillKernel, args + 12 * i], program / 4 + 2 * i);
      words.set([target + 4 * count * i, count, value], args / 4 + 3 * i);
    });
    return program;
  };

  it('shares the work of every command between the threads', () => {
    const count = 1003;
    const values = [7, 11, 13];
    const target = pool.allocator.allocate(values.length * count * 4);
    pool.run('run', fillProgram(target, count, values), values.length);
    const out = new Uint32Array(pool.memory.buffer, target, count * values.length);
    expect(out.every((v, i) => v === values[Math.floor(i / count)])).toBe(true);
  });

  it('runs many short jobs with barriers between their commands', () => {
    const target = pool.allocator.allocate(64);
    // Every command overwrites the same words, so the last must win each time.
    const values = Array.from({ length: 50 }, (_, i) => i + 1);
    const program = fillProgram(target, 0, values);
    const words = new Uint32Array(pool.memory.buffer);
    for (let i = 0; i < values.length; i++) words.set([target, 16], words[program / 4 + 2 * i + 1] / 4);
    for (let round = 0; round < 200; round++) {
      words[target / 4] = 0;
      pool.run('run', program, values.length);
      expect(words[target / 4 + 15]).toBe(50);
    }
  });

  it('reports a function that does not exist', () => {
    expect(() => pool.run('absent')).toThrow('exports no function absent');
  });
});

describe('a failing kernel', () => {
  it('throws in the caller instead of hanging', async () => {
    const pool = await createPool('engine', { threads: 2 });
    const program = pool.allocator.allocate(16);
    new Uint32Array(pool.memory.buffer).set([0xffff, 0], program / 4);
    expect(() => pool.run('run', program, 1)).toThrow('failed');
    pool.dispose();
  });
});

describe('the allocator', () => {
  it('reuses freed memory, joins neighbours and states what is missing', async () => {
    const pool = await createPool('engine', { threads: 1, maximumBytes: 4 * 2 ** 20 });
    const { allocator } = pool;
    const a = allocator.allocate(100);
    const b = allocator.allocate(200);
    const c = allocator.allocate(2 ** 20);
    expect(allocator.usedBytes).toBe(128 + 256 + 2 ** 20);
    allocator.free(a);
    allocator.free(b);
    expect(allocator.allocate(384)).toBe(a);
    expect(() => allocator.allocate(2 ** 30, 'the weights')).toThrow(
      /the weights.*1073741824 bytes.*at most \d+ bytes/,
    );
    allocator.free(a);
    allocator.free(c);
    expect(allocator.usedBytes).toBe(0);
    expect(allocator.allocate(2 * 2 ** 20)).toBe(a);
  });
});
