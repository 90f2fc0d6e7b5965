// subbyte doctor: what this machine can compute with, measured and checked. Exit code 3 when a check fails or an adapter
// cannot be used.

import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { Option } from 'commander';
import type { Backend } from '../backends/backend.ts';
import type { ListedAdapter } from '../backends/webgpu/adapters.ts';
import type { WebgpuBackend } from '../backends/webgpu/backend.ts';
import { deviceError, SubbyteError } from '../errors.ts';
import { toolVersion } from '../version.ts';
import { type CommandDefinition, parseNumber } from './command.ts';
import { chooseDevice, openBackend } from './device.ts';
import { humanBytes } from './progress.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

interface DoctorOptions {
  device?: string[];
  seconds: number;
}

const definition: CommandDefinition = {
  name: 'doctor',
  summary: 'list adapters and what they can do, measure them, check every op on them',
  options: [
    new Option(
      '--device <name>',
      'only this one: wasm, webgpu or webgpu:N (default: wasm and every adapter)',
    ).argParser((text: string) => [text]),
    new Option('--seconds <n>', 'time for the check of each device').default(5).argParser(parseNumber),
  ],
  examples: ['subbyte doctor', 'subbyte doctor --device webgpu:0 --json'],
  async run(session, _, raw) {
    const { device, seconds } = raw as unknown as DoctorOptions;
    const machine = {
      subbyte: toolVersion,
      node: process.versions.node,
      system: `${process.platform} ${process.arch}`,
      processor: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      memory: totalmem(),
      free: freemem(),
    };
    session.print(
      `subbyte ${machine.subbyte}, Node ${machine.node}, ${machine.system}, ${machine.processor}, ${machine.cores} cores, ${humanBytes(machine.memory)} of memory (${humanBytes(machine.free)} free)`,
    );
    const { adapters, problem } = device ? { adapters: [], problem: undefined } : await adaptersHere();
    if (problem) session.print(`\nwebgpu       ${problem}`);
    const names = device ?? ['wasm', ...adapters.map((_, i) => `webgpu:${i}`)];
    const devices: Examined[] = [];
    const unusable: SubbyteError[] = [];
    for (const name of names) {
      try {
        devices.push(await examine(session, name, seconds));
      } catch (error) {
        // one broken adapter does not hide the others; a device that was asked for is the whole answer
        if (device || !(error instanceof SubbyteError) || error.kind !== 'device') throw error;
        unusable.push(error);
        session.print(`\n${name.padEnd(12)} cannot be used: ${error.message}`);
      }
    }
    const auto = device ? undefined : await automatic(session);
    session.result({
      machine,
      adapters,
      webgpuProblem: problem,
      devices,
      unusable: unusable.map(({ message }) => message),
      auto,
    });
    const failed = devices.filter(({ check }) => check.failures.length > 0);
    if (failed.length === 0 && unusable.length > 0) throw unusable[0];
    if (failed.length > 0)
      throw deviceError({
        code: 'self-test',
        op: 'doctor',
        problem: `${failed.map(({ device }) => device).join(' and ')} computed something wrong: ${failed[0].check.failures[0]}`,
        fix: 'update the graphics driver and report it with the output of --json; until then use --device wasm',
      });
  },
};

/** The graphics adapters, or the sentence that says why there are none. */
async function adaptersHere(): Promise<{ adapters: ListedAdapter[]; problem?: string }> {
  const { whyNoGpu } = await import('../backends/webgpu/likely.ts');
  const none = whyNoGpu();
  if (none !== undefined) return { adapters: [], problem: `${none}; install one to compute on a GPU` };
  try {
    const { listAdapters } = await import('../backends/webgpu/adapters.ts');
    const adapters = await listAdapters();
    return { adapters, problem: adapters.length === 0 ? 'no graphics adapter was found' : undefined };
  } catch (error) {
    if (error instanceof SubbyteError) return { adapters: [], problem: error.message };
    throw error;
  }
}

/** What `--device auto` takes on this machine, and why. */
async function automatic(session: Session) {
  const { backend, reason } = await chooseDevice(session, 'auto');
  const { description } = backend;
  backend.dispose();
  session.print(`\n${'auto'.padEnd(12)} ${description}: ${reason}`);
  return { description, reason };
}

type Examined = Awaited<ReturnType<typeof examine>>;

/** Opens a device, prints what it is, measures it and runs the self-test. */
async function examine(session: Session, device: string, seconds: number) {
  const { selfTest } = await import('../backends/self-test.ts');
  const backend = await openBackend(session, device);
  try {
    session.print(`\n${device.padEnd(12)} ${backend.description}`);
    const traits = 'gpu' in backend ? printTraits(session, backend as WebgpuBackend) : undefined;
    const rates = await measure(session, backend);
    const check = await selfTest(backend, seconds, session.signal);
    const rest = [
      check.unsupported > 0 && `${check.unsupported} without a kernel`,
      check.left > 0 && `${check.left} not reached in ${seconds} s`,
    ].filter(Boolean);
    session.print(
      `  check      ${check.passed} op cases agree with the reference${rest.length > 0 ? ` (${rest.join(', ')})` : ''}`,
    );
    for (const failure of check.failures) session.print(`  WRONG      ${failure}`);
    return { device, description: backend.description, ...traits, rates, check };
  } finally {
    backend.dispose();
  }
}

const tera = (flops: number) =>
  flops >= 1e12 ? `${(flops / 1e12).toFixed(1)} TFLOP/s` : `${(flops / 1e9).toFixed(1)} GFLOP/s`;

async function measure(session: Session, backend: Backend) {
  if (!('gpu' in backend)) {
    const { timeProduct } = await import('../backends/time-product.ts');
    const f32 = await timeProduct(backend, { atLeast: 30 });
    session.print(`  f32        ${tera(f32.flops)}, product of ${f32.size}²`);
    return { f32 };
  }
  const { measureDevice } = await import('../backends/webgpu/measure.ts');
  const rates = await measureDevice(backend as WebgpuBackend);
  session.print(`  copy       ${(rates.copyBytes / 1e9).toFixed(1)} GB/s read and written`);
  session.print(`  f32        ${tera(rates.f32.flops)}, product of ${rates.f32.size}²`);
  if (rates.f16)
    session.print(`  f16        ${tera(rates.f16.flops)}, product of ${rates.f16.size}² on subgroup matrices`);
  return rates;
}

function printTraits(session: Session, { gpu }: WebgpuBackend) {
  const { info, features, subgroupMatrices } = gpu;
  const driver = info.description || 'unknown';
  const limits = {
    bufferBytes: gpu.bufferBytes,
    workgroupBytes: gpu.workgroupBytes,
    workgroupThreads: gpu.workgroupThreads,
    subgroup: [gpu.subgroupMinSize, gpu.subgroupMaxSize],
  };
  session.print(`  driver     ${driver}${info.vendor ? ` (${info.vendor} ${info.architecture})` : ''}`);
  session.print(`  features   ${[...features].join(', ') || 'none of those that help'}`);
  session.print(
    `  limits     ${humanBytes(limits.bufferBytes)} a buffer, ${humanBytes(limits.workgroupBytes)} of workgroup memory, ${limits.workgroupThreads} threads a workgroup, subgroups of ${limits.subgroup.join('–')}`,
  );
  if (subgroupMatrices.length > 0) {
    const right = { align: 'right' as const };
    session.print(
      renderTable(
        [{ title: '  matrices' }, { title: 'sums' }, ...['M', 'N', 'K'].map((title) => ({ title, ...right }))],
        subgroupMatrices.map((m) => [
          `  ${m.componentType}`,
          m.resultComponentType,
          String(m.M),
          String(m.N),
          String(m.K),
        ]),
      ),
    );
  }
  return { driver, features: [...features], limits, subgroupMatrices };
}

export default definition;
