// The WebGPU suite of bench/ compiles every kernel of its ladders, and its figures are checked ones.

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { missingGpu, softwareGpuVariables } from './support/software-gpu.ts';

interface Step {
  family: string;
  version: string;
  rate?: number;
  error?: number;
  problem?: string;
}

function bench(args: readonly string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['bench/run.ts', 'webgpu', '--json', ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
  const steps: Step[] = stdout ? JSON.parse(stdout).result.steps : [];
  return { status, stderr, steps };
}

describe('bench webgpu', () => {
  it('compiles every version on the device that runs nothing', () => {
    const { status, steps, stderr } = bench(['--sizes', 'tiny', '--backend', 'null']);
    expect(steps.filter(({ problem }) => problem)).toEqual([]);
    expect(new Set(steps.map(({ family }) => family)).size).toBeGreaterThan(10);
    expect(stderr).toMatch(/^crossEntropy .+ compiled$/m);
    expect(status).toBe(0);
  });

  const missing = missingGpu();
  it.skipIf(missing)(`times and checks versions${missing ? ` (${missing})` : ''}`, () => {
    const { status, steps } = bench(['--sizes', 'tiny', '--only', '^(swiglu|rmsNorm 128)'], softwareGpuVariables());
    expect(steps.map(({ version }) => version)).toEqual(['composed', 'rmsNorm', 'composed', 'swiglu']);
    for (const { rate, error } of steps) {
      expect(rate).toBeGreaterThan(0);
      expect(error).toBeLessThan(1e-5);
    }
    expect(status).toBe(0);
  });

  it('names the sizes there are', () => {
    const { status, stderr } = bench(['--sizes', 'huge', '--backend', 'null']);
    expect(stderr).toContain('no sizes huge; there are tiny, quick, full');
    expect(status).toBe(1);
  });
});
