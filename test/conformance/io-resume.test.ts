// Writers that are killed, aborted, or out of disk: what stays, what continues, what never has the final name.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { openSafetensors } from '../../src/io/safetensors.ts';
import { writeSafetensors } from '../../src/io/safetensors-writer.ts';
import { bytesOf, scratchFolder } from './io-scratch.ts';
import { writeModel } from './io-slow-writer.ts';

const folder = scratchFolder();
const script = fileURLToPath(new URL('io-slow-writer.ts', import.meta.url));

/** Starts the writer and kills it when `tensors` lines have come. */
async function killedRun(format: string, path: string, tensors: number): Promise<void> {
  const child = spawn(process.execPath, [script, format, path, 'same', '40'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let seen = '';
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (data: Buffer) => {
      seen += data.toString();
      if (seen.split('\n').length > tensors) child.kill('SIGKILL');
    });
    child.on('exit', () => resolve());
  });
  expect(child.signalCode).toBe('SIGKILL');
}

const same = (a: string, b: string) => expect(Buffer.compare(bytesOf(a), bytesOf(b)), `${a} and ${b}`).toBe(0);

it('one tensor ahead: content is asked for while the tensor before is written, and not earlier', async () => {
  for (const write of [writeSafetensors, writeGguf]) {
    const path = join(folder, 'stream.bin');
    const sizes: number[] = [];
    const events: string[] = [];
    const tensors = Array.from({ length: 8 }, (_, i) => ({
      name: `t${i}`,
      dtype: 'I8',
      shape: [1024],
      byteLength: 1024,
      data: async () => {
        events.push(`ask ${i}`);
        sizes.push(statSync(`${path}.partial`).size);
        return new Uint8Array(1024);
      },
    }));
    const onTensor = ({ index }: { index: number }) => events.push(`done ${index}`);
    await write({ path, tensors, metadata: [] as never, onTensor });
    expect(events).toEqual([
      'ask 0',
      ...tensors.flatMap((_, i) => (i < 7 ? [`ask ${i + 1}`] : []).concat(`done ${i}`)),
    ]);
    // everything before the tensor that is being written is in the file
    for (const [i, size] of sizes.entries()) expect(size - sizes[0]).toBeGreaterThanOrEqual(1024 * (i - 1));
  }
});

it('a tensor that gives too much or too little, or fails ahead of its turn, leaves nothing', async () => {
  const place = join(folder, 'faulty');
  const content = (length: number, chunks: readonly number[] | Error) => ({
    name: `t${length}`,
    dtype: 'U8',
    shape: [length],
    byteLength: length,
    async *data() {
      if (chunks instanceof Error) throw chunks;
      for (const n of chunks) yield new Uint8Array(n);
    },
  });
  const attempt = (...tensors: ReturnType<typeof content>[]) =>
    writeSafetensors({ path: join(place, 'x.safetensors'), tensors, order: 'given', fingerprint: 'f' });
  const good = content(4, [0, 3, 0, 1]);
  await expect(attempt(good, content(5, [5, 1]))).rejects.toThrow(/t5 gave 6 bytes, 5 were announced/);
  await expect(attempt(content(5, [5, 1]), good)).rejects.toThrow(/t5 gave 6 bytes, 5 were announced/);
  await expect(attempt(content(5, [2]), good)).rejects.toThrow(/t5 gave 2 bytes, 5 were announced/);
  await expect(attempt(good, content(5, []))).rejects.toThrow(/t5 gave 0 bytes, 5 were announced/);
  await expect(attempt(good, content(0, [1]))).rejects.toThrow(/t0 gave 1 bytes, 0 were announced/);
  await expect(attempt(good, content(6, new Error('no such luck')))).rejects.toThrow('no such luck');
  expect(readdirSync(place)).toEqual([]);
  await attempt(content(0, []), good);
  expect(readdirSync(place)).toEqual(['x.safetensors']);
});

describe('a killed run', () => {
  for (const format of ['safetensors', 'gguf'])
    it(`continues ${format} after the last whole tensor, and the bytes are those of an undisturbed run`, async () => {
      const path = join(folder, `killed.${format}`);
      const whole = join(folder, `whole.${format}`);
      await writeModel(format, whole, {});
      await killedRun(format, path, 4);
      expect(existsSync(path)).toBe(false);
      const journal = JSON.parse(readFileSync(`${path}.partial.json`, 'utf8'));
      // parts: the header and the whole tensors
      expect(journal.parts).toBeGreaterThanOrEqual(5);
      expect(statSync(`${path}.partial`).size).toBeGreaterThanOrEqual(journal.bytes);
      const asked: string[] = [];
      await writeModel(format, path, { fingerprint: 'same', asked });
      expect(asked).toHaveLength(12 - (journal.parts - 1));
      expect(asked.at(-1)).toBe('t11');
      same(path, whole);
      expect(readdirSync(folder).filter((n) => n.startsWith(`killed.${format}.`))).toEqual([]);
    });

  it('continues a set of shards; none has its name before all are whole', async () => {
    const path = join(folder, 'shards/model.safetensors');
    await killedRun('sharded', path, 7);
    expect(readdirSync(join(folder, 'shards')).filter((n) => n.endsWith('.safetensors'))).toEqual([]);
    const asked: string[] = [];
    const maxShardBytes = 5 * 16 * 2048;
    await writeModel('safetensors', path, { fingerprint: 'same', asked, maxShardBytes });
    expect(asked.length).toBeLessThanOrEqual(5);
    await writeModel('safetensors', join(folder, 'shards-whole/model.safetensors'), { maxShardBytes });
    const names = readdirSync(join(folder, 'shards-whole'));
    expect(names).toHaveLength(4);
    expect(readdirSync(join(folder, 'shards'))).toEqual(names);
    for (const n of names) same(join(folder, 'shards', n), join(folder, 'shards-whole', n));
    const model = await openSafetensors(join(folder, 'shards'));
    expect(model.tensors.size).toBe(12);
    await model.close();
  });
});

/** A partial with some tensors, left by an abort. */
async function aborted(path: string, fingerprint: string | undefined, after = 3): Promise<Error> {
  const abort = new AbortController();
  return await writeModel('safetensors', path, {
    fingerprint,
    signal: abort.signal,
    onTensor: ({ index }) => index === after - 1 && abort.abort(),
  }).then(
    () => expect.fail('must be interrupted'),
    (e) => e as Error,
  );
}

describe('an aborted run', () => {
  const path = join(folder, 'aborted.safetensors');
  const redo = async (fingerprint: string | undefined) => {
    const asked: string[] = [];
    await writeModel('safetensors', path, { fingerprint, asked });
    const whole = join(folder, 'whole.st');
    await writeModel('safetensors', whole, {});
    same(path, whole);
    return asked.length;
  };

  it('is an error of kind interrupted and continues', async () => {
    expect(await aborted(path, 'a')).toMatchObject({ kind: 'interrupted', exitCode: 130 });
    expect(existsSync(path)).toBe(false);
    expect(await redo('a')).toBe(9);
  });

  it('starts over with another fingerprint', async () => {
    await aborted(path, 'a');
    expect(await redo('b')).toBe(12);
  });

  it('leaves nothing behind without a fingerprint', async () => {
    const alone = join(folder, 'alone/x.safetensors');
    await aborted(alone, undefined);
    expect(readdirSync(join(folder, 'alone'))).toEqual([]);
  });

  it('starts over when the partial was changed, cut or its journal damaged', async () => {
    const damage: (() => void)[] = [
      () => {
        const bytes = bytesOf(`${path}.partial`);
        bytes[3000] ^= 1;
        writeFileSync(`${path}.partial`, bytes);
      },
      () => truncateSync(`${path}.partial`, 50_000),
      () => writeFileSync(`${path}.partial.json`, '{"finger'),
      () => writeFileSync(`${path}.partial.json`, 'null'),
    ];
    for (const harm of damage) {
      await aborted(path, 'a');
      harm();
      expect(await redo('a')).toBe(12);
    }
  });

  it('keeps an older file of the final name until the new one is whole', async () => {
    writeFileSync(path, 'old');
    await aborted(path, 'a');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(await redo('a')).toBe(9);
  });
});

describe('a place that cannot be written', () => {
  const one = { name: 't', dtype: 'U8', shape: [4], byteLength: 4, data: async () => new Uint8Array(4) };
  const attempt = (path: string, tensor = one) => writeSafetensors({ path, tensors: [tensor], fingerprint: 'f' });

  it('is named: a folder with the name, a file where a folder should be, a folder that takes nothing', async () => {
    const taken = join(folder, 'taken.safetensors');
    mkdirSync(taken);
    await expect(attempt(taken)).rejects.toMatchObject({ kind: 'user', exitCode: 1 });
    await expect(attempt(taken)).rejects.toThrow(/a folder has the name of the output file.*taken\.safetensors/);
    writeFileSync(join(folder, 'file'), '');
    await expect(attempt(join(folder, 'file/x.safetensors'))).rejects.toThrow(/write: .*file\/x\.safetensors/);
    await expect(attempt('/proc/subbyte/x.safetensors')).rejects.toThrow(/write: .*\/proc\/subbyte/);
    expect(existsSync(`${taken}.partial`)).toBe(false);
  });

  it('a disk without the space is refused before the first byte', async () => {
    const huge = { ...one, shape: [2 ** 50], byteLength: 2 ** 50 };
    const path = join(folder, 'huge.safetensors');
    await expect(attempt(path, huge)).rejects.toMatchObject({ kind: 'device', exitCode: 3 });
    await expect(attempt(path, huge)).rejects.toThrow(/too little free space.*bytes free, expected \d+ bytes.*huge/);
    expect(readdirSync(folder).filter((n) => n.startsWith('huge'))).toEqual([]);
  });

  it('a file limit in the middle is one sentence with exit code 3, and the run continues later', async () => {
    const path = join(folder, 'limited.safetensors');
    const command = `ulimit -f 128; exec "${process.execPath}" "${script}" safetensors "${path}" limited 0`;
    const run = spawnSync('bash', ['-c', command]);
    expect(run.stdout.toString()).toMatch(
      /device: write: the file would be larger than .*limited\.safetensors\.partial/,
    );
    expect(run.status).toBe(3);
    expect(existsSync(path)).toBe(false);
    const asked: string[] = [];
    await writeModel('safetensors', path, { fingerprint: 'limited', asked });
    expect(asked.length).toBeLessThan(12);
    same(path, join(folder, 'whole.st'));
  });

  it('an error in the content removes the partial', async () => {
    const path = join(folder, 'content.safetensors');
    const broken = { ...one, data: async () => new Uint8Array(3) };
    await expect(attempt(path, broken)).rejects.toThrow(/gave 3 bytes, 4 were announced/);
    expect(readdirSync(folder).filter((n) => n.startsWith('content'))).toEqual([]);
  });
});
