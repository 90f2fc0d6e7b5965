// Parts that need no device: what is said when WebGPU is missing, failures that a device reports late, and how the
// bindings of a dispatch are declared.

import { describe, expect, it } from 'vitest';
import type { SubbyteError } from '../../errors.ts';
import { assemble } from './assemble.ts';
import type { OpenDevice } from './device.ts';
import { runError } from './errors.ts';
import { loadDawn } from './gpu.ts';
import type { Binding, Command } from './kernel.ts';
import { DeviceMemory } from './memory.ts';

const caught = async (work: Promise<unknown>): Promise<SubbyteError> =>
  work.then(
    () => {
      throw new Error('nothing was thrown');
    },
    (error) => error,
  );

describe('loadDawn', () => {
  it('names the command that installs the package', async () => {
    const absent = Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' });
    const error = await caught(loadDawn(() => Promise.reject(absent)));
    expect(error.exitCode).toBe(3);
    expect(error.message).toBe('webgpu: the npm package webgpu is not installed; run npm install webgpu');
  });

  it('says why a package that is there does not load', async () => {
    const error = await caught(loadDawn(() => Promise.reject(new Error('GLIBC_2.36 not found\nmore'))));
    expect(error.message).toMatch(/cannot be loaded \(GLIBC_2.36 not found\)/);
  });
});

/** A device whose error scopes answer what the test says. */
function fakeDevice(answers: (string | null)[]) {
  const destroyed: string[] = [];
  const device = {
    pushErrorScope() {},
    popErrorScope: async () => {
      const message = answers.shift() ?? null;
      return message === null ? null : { message };
    },
    createBuffer: ({ label }: { label: string }) => ({ destroy: () => destroyed.push(label) }),
  };
  return { device: device as unknown as GPUDevice, destroyed };
}

describe('device memory', () => {
  it('reports at settle() what could not be allocated', async () => {
    const { device, destroyed } = fakeDevice([null, null, null, null, null, 'Out of device memory']);
    const memory = new DeviceMemory(device, { bufferBytes: 4096, maximumBytes: Infinity });
    memory.allocate(1024, 'first');
    const second = memory.allocate(2048, 'second');
    const error = await caught(memory.settle());
    expect(error.exitCode).toBe(3);
    expect(error.message).toMatch(
      /not enough device memory for second \(Out of device memory\), got a request of 2048/,
    );
    memory.free(second);
    expect(destroyed).toEqual(['second']);
    expect(memory.usedBytes).toBe(1024);
    await memory.settle();
  });

  it('counts what is in use, and refuses a buffer twice freed', () => {
    const memory = new DeviceMemory(fakeDevice([]).device, { bufferBytes: 4096, maximumBytes: Infinity });
    const buffer = memory.allocate(512, 'x');
    expect(memory.usedBytes).toBe(512);
    memory.free(buffer);
    expect(() => memory.free(buffer)).toThrow('not allocated here');
    expect(() => memory.allocate(4100, 'y')).toThrow(/for y, got a request of 4100 bytes/);
  });
});

describe('runError', () => {
  const plan = { peakBytes: 123 } as never;
  const gpu = (lost?: SubbyteError) => ({ bufferBytes: 456, lossError: async () => lost }) as unknown as OpenDevice;

  it('gives sizes and limits of a failure', async () => {
    const error = await runError('run', { message: 'Buffer is bad\n at x' }, gpu(), plan);
    expect(error.exitCode).toBe(3);
    expect(error.message).toMatch(
      /refused the work \(Buffer is bad\), got a graph of 123 bytes, expected .* 456 bytes/,
    );
  });

  it('tells a lost device from a failure', async () => {
    const lost = await runError('run', new Error('x'), gpu(), plan);
    expect(await runError('run', new Error('mapping was aborted'), gpu(lost), plan)).toBe(lost);
  });
});

describe('assemble', () => {
  const [one, two] = ['one', 'two'].map((label) => ({ label }) as GPUBuffer);
  const bind = (
    buffer: GPUBuffer,
    offset: number,
    access: Binding['access'],
    type: Binding['type'] = 'f32',
  ): Binding => ({
    range: { buffer, offset, bytes: 256 },
    access,
    type,
  });
  const build = (bindings: Command['bindings']) =>
    assemble('op', { bindings, items: 1, workgroups: [1, 1, 1], code: (n) => `// ${Object.values(n).join()}` });

  it('declares an input writable only where the dispatch writes to its buffer', () => {
    const { text, storage } = build({ x: bind(one, 0, 'read'), w: bind(two, 0, 'read'), y: bind(one, 256, 'write') });
    expect(storage.map(({ writable }) => writable)).toEqual([true, false, true]);
    expect(text).toContain('var<storage, read_write> x: array<f32>');
    expect(text).toContain('var<storage, read> w: array<f32>');
  });

  it('gives one name to bindings of one piece of memory', () => {
    const { text, storage } = build({ a: bind(one, 0, 'read'), b: bind(one, 0, 'read'), y: bind(one, 0, 'write') });
    expect(text).toContain('// a,a,a');
    expect(storage).toHaveLength(1);
    expect(storage[0].writable).toBe(true);
  });

  it('refuses overlaps and two types for one piece', () => {
    expect(() => build({ x: bind(one, 0, 'read'), y: bind(one, 128, 'write') })).toThrow('overlap');
    expect(() => build({ x: bind(one, 0, 'read'), y: bind(one, 0, 'write', 'u32') })).toThrow('f32 and u32');
  });
});
