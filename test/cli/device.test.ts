// `--device`, `subbyte doctor`, and what happens when a GPU's process dies. SwiftShader stands in for the GPU.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseAdapters } from '../../src/backends/webgpu/adapters.ts';
import { missingGpu, softwareGpuVariables } from '../support/software-gpu.ts';
import { inTemporaryFolder, shippedModel, subbyte } from './run-cli.ts';

const missing = missingGpu();
const evaluate = ['eval', shippedModel, '--tokens', '64', '--window', '64'];

describe('without a graphics driver', () => {
  const env = { VK_DRIVER_FILES: '', VK_ICD_FILENAMES: '', XDG_DATA_DIRS: '/nowhere', XDG_DATA_HOME: '/nowhere' };

  it('auto computes on the CPU and says why', async () => {
    const run = await subbyte(evaluate, { env });
    expect(run.code).toBe(0);
    expect(run.stderr).toMatch(/device {7}wasm, \d+ threads?, .* \(auto: no Vulkan driver is installed\)/);
  });

  it('webgpu is refused with what to install', async () => {
    const run = await subbyte([...evaluate, '--device', 'webgpu'], { env });
    expect(run.code).toBe(3);
    expect(run.stderr).toMatch(/subbyte: webgpu: no graphics adapter can be used; install a Vulkan/);
  });

  it('verify --device compares with the reference', async () => {
    const run = await subbyte(
      ['verify', shippedModel, '--device', 'wasm', '--window', '8', '--tokens', '8', '--json'],
      {
        env,
      },
    );
    expect(run.code).toBe(0);
    expect(JSON.parse(run.stdout).backends).toEqual(['reference', 'wasm']);
  });

  it('doctor still examines the CPU', async () => {
    const run = await subbyte(['doctor', '--seconds', '1', '--json'], { env });
    expect(run.code).toBe(0);
    const result = JSON.parse(run.stdout);
    expect(result.webgpuProblem).toMatch(/^no Vulkan driver is installed/);
    expect(result.devices).toHaveLength(1);
    expect(result.devices[0].device).toBe('wasm');
    expect(result.devices[0].check.passed).toBeGreaterThan(20);
    expect(result.devices[0].check.failures).toEqual([]);
    expect(result.devices[0].rates.f32.flops).toBeGreaterThan(1e8);
  });

  it.each([
    ['eval', '--device', 'cuda'],
    ['eval', '--device', 'wasm:1'],
    ['verify', '--on', 'wasm'],
    ['verify', '--on', 'wasm,auto'],
    ['verify', '--on', 'wasm,wasm'],
    ['verify', '--device', 'auto'],
    ['demo', '--device', 'cuda'],
  ])('%s %s %s is a wrong request', async (command, option, value) => {
    const run = await subbyte([command, shippedModel, option, value], { env });
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(/expected (auto, wasm, reference, webgpu|such as reference,wasm)/);
  });
});

describe.skipIf(missing)(`with a graphics adapter${missing ? ` (${missing})` : ''}`, () => {
  const env = missing ? {} : softwareGpuVariables();

  it('doctor lists, measures and checks it', async () => {
    const run = await subbyte(['doctor', '--device', 'webgpu:0', '--seconds', '3', '--json'], { env });
    expect(run.stderr).toBe('');
    expect(run.code).toBe(0);
    const [gpu] = JSON.parse(run.stdout).devices;
    expect(gpu.description).toMatch(/^webgpu, SwiftShader/);
    expect(gpu.features).toContain('subgroups');
    expect(gpu.limits.workgroupBytes).toBeGreaterThanOrEqual(16384);
    expect(gpu.rates.copyBytes).toBeGreaterThan(1e7);
    expect(gpu.check.passed).toBeGreaterThan(5);
    expect(gpu.check.failures).toEqual([]);
  });

  it('doctor goes on after an adapter that cannot be used, and says what auto takes', async () => {
    await inTemporaryFolder(async (folder) => {
      const broken = path.join(folder, 'broken.mjs');
      writeFileSync(
        broken,
        `const { globals } = await import(${JSON.stringify(import.meta.resolve('webgpu'))});
globals.GPUAdapter.prototype.requestDevice = () => Promise.reject(new Error('no device today'));
`,
      );
      const options = { env: { ...env, NODE_OPTIONS: `--import=${broken}` } };
      const run = await subbyte(['doctor', '--seconds', '0.5'], options);
      expect(run.code).toBe(3);
      expect(run.stdout).toMatch(/^wasm .*\n {2}f32 .*FLOP/m);
      expect(run.stdout).toMatch(
        /^webgpu:0 {5}cannot be used: webgpu: no graphics adapter can be used \(no device today\)/m,
      );
      expect(run.stdout).toMatch(/^auto {9}wasm, .*: no graphics adapter can be used \(no device today\)/m);
    });
  });

  it('auto prefers WebAssembly to a GPU that is a program', async () => {
    const run = await subbyte(evaluate, { env });
    expect(run.code).toBe(0);
    expect(run.stderr).toMatch(/\(auto: the graphics adapter is a program, slower than WebAssembly\)/);
  });

  it('an adapter that is not there is a wrong request', async () => {
    const run = await subbyte([...evaluate, '--device', 'webgpu:7'], { env });
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(/no graphics adapter 7, got webgpu:7, expected webgpu:0 … webgpu:0; list them/);
  });

  it('a driver that ends the process leaves a message and the right exit code', async () => {
    await inTemporaryFolder(async (folder) => {
      const crash = path.join(folder, 'crash.mjs');
      writeFileSync(
        crash,
        "if (process.env.SUBBYTE_GPU_PROCESS) setTimeout(() => process.kill(process.pid, 'SIGSEGV'), 300);\n",
      );
      const options = { env: { ...env, NODE_OPTIONS: `--import=${crash}` } };
      const run = await subbyte(['doctor', '--seconds', '30', '--json'], options);
      expect(run.code).toBe(3);
      expect(run.stderr).toMatch(/the process that used the GPU ended without a word \(SIGSEGV\).*--device wasm/);
      expect(JSON.parse(run.stdout).error.code).toBe('gpu-process-died');
    });
  });

  it('Ctrl-C reaches the process of the GPU', async () => {
    const run = await subbyte(['doctor', '--seconds', '60'], { env, interruptAt: /device {7}wasm/ });
    expect(run.code).toBe(130);
    expect(run.stderr).toMatch(/stopped by SIGINT/);
  });
});

it('adapters are read from the message of Dawn', () => {
  const message =
    "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'A (B)'\n * backend: 'null', name: 'Null'\n";
  expect(parseAdapters(message)).toEqual([{ backend: 'vulkan', name: 'A (B)' }]);
  expect(parseAdapters('something else')).toEqual([]);
});
