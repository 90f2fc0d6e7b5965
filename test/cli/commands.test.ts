// The other commands on the shipped model: what they print, and their JSON.

import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/io/open.ts';
import { inTemporaryFolder, shippedModel, subbyte } from './run-cli.ts';

async function json(args: string[]): Promise<Record<string, unknown>> {
  const run = await subbyte([...args, '--json']);
  expect(run.stderr).toBe('');
  expect(run.code).toBe(0);
  expect(run.stdout.trim().split('\n')).toHaveLength(1);
  return JSON.parse(run.stdout);
}

describe('commands', () => {
  it('eval prints perplexity, nll and tokens', async () => {
    const result = await json(['eval', shippedModel, '--tokens', '1024']);
    expect(result.tokens).toBe(2 * 511);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.nll as number), 6);
    // a trained model is far better than a uniform guess over 2048 tokens, on any part of the text
    expect(result.perplexity).toBeLessThan(60);
  });

  it('eval --reference against itself has no divergence', async () => {
    const result = await json(['eval', shippedModel, '--reference', shippedModel, '--tokens', '512']);
    expect(result.kl).toBe(0);
    expect(result.top1).toBe(1);
    expect(result.perplexity).toBe(result.originalPerplexity);
  });

  it('verify compares the backends', async () => {
    const result = await json(['verify', shippedModel, '--tokens', '32', '--window', '32']);
    expect(result.pass).toBe(true);
    expect(result.cosine).toBeGreaterThan(0.99999);
    expect(result.tokens).toBe(32);
  });

  it('generate is reproducible by seed and greedy at temperature 0', async () => {
    const args = ['generate', shippedModel, '--prompt', 'The index is', '-n', '12'];
    const a = await json([...args, '--seed', '1']);
    const b = await json([...args, '--seed', '1']);
    const c = await json([...args, '--seed', '2']);
    expect(a.text).toBe(b.text);
    expect(a.text).not.toBe(c.text);
    const greedy = await json([...args, '--temperature', '0', '--seed', '1']);
    expect(greedy.text).toBe((await json([...args, '--temperature', '0', '--seed', '2'])).text);
    expect((greedy.tokens as number[]).length).toBeLessThanOrEqual(12);
  });

  it('eval, verify and generate quantize keys and values, and say what that saves', async () => {
    const scheme = 'k=int2-channel-g32,v=int2-g40,residual=32';
    const args = ['--tokens', '512', '--window', '256'];
    const exact = await json(['eval', shippedModel, ...args]);
    const result = await json(['eval', shippedModel, ...args, '--kv', scheme]);
    const change = (result.perplexity as number) / (exact.perplexity as number) - 1;
    expect(change).toBeGreaterThan(0.005);
    expect(change).toBeLessThan(0.2);
    // 7 layers, 2 heads of 80: keys 2 bits and 4 bytes for 32 tokens, values 2 bits and 4 bytes for 40 channels.
    const perToken = 14 * (80 * (2 / 8 + 4 / 32) + 80 * (2 / 8 + 4 / 40));
    expect((result.protocol as { kv: unknown }).kv).toMatchObject({ scheme, perToken, perTokenF32: 14 * 160 * 4 });
    const against = await json(['eval', shippedModel, ...args, '--reference', shippedModel, '--kv', scheme]);
    expect(against.perplexity as number).toBeCloseTo(result.perplexity as number, 3);
    expect(against.originalPerplexity as number).toBeCloseTo(exact.perplexity as number, 3);
    const parity = await json(['verify', shippedModel, '--tokens', '64', '--kv', scheme]);
    expect(parity).toMatchObject({ pass: true, kv: { scheme } });
    const text = await json(['generate', shippedModel, '--prompt', 'The index is', '-n', '8', '--kv', scheme]);
    expect(text).toMatchObject({ kv: { scheme } });
    expect((text.tokens as number[]).length).toBeLessThanOrEqual(8);
  });

  it('a scheme that cannot be is one sentence', async () => {
    const bad = await subbyte(['eval', shippedModel, '--kv', 'k=int2-channel-g32,v=int2-g32']);
    expect(bad.code).toBe(1);
    expect(bad.stderr.trim().split('\n').at(-1)).toMatch(
      /^subbyte: kv: v does not suit the model's head dimension, got .* use g8/,
    );
    const worse = await subbyte(['generate', shippedModel, '-p', 'x', '--kv', 'int4']);
    expect(worse.code).toBe(1);
    expect(worse.stderr).toMatch(/a part of the scheme has no meaning, got "int4"/);
  });

  it('inspect lists tensors and, with --format, errors', async () => {
    const plain = await json(['inspect', shippedModel]);
    expect(plain).toMatchObject({ container: 'safetensors', values: 6_034_272, bytes: 12_068_544 });
    const stats = await json(['inspect', shippedModel, '--filter', 'layers.0.mlp', '--format', 'mxfp4']);
    const tensors = stats.tensors as { name: string; qsnr: number; statistics: { amax: number; nonFinite: number } }[];
    expect(tensors).toHaveLength(3);
    for (const t of tensors) {
      // MXFP4 on a Gaussian is 18.74 dB; weights are near it
      expect(t.qsnr).toBeGreaterThan(17);
      expect(t.qsnr).toBeLessThan(20);
      expect(t.statistics.nonFinite).toBe(0);
    }
  });

  it('estimate agrees with the bytes that quantize writes', async () => {
    await inTemporaryFolder(async (out) => {
      const { formats } = await json(['estimate', shippedModel, '--format', 'mxfp4']);
      const estimate = (formats as { format: string; weightBytes: number }[]).find((f) => f.format === 'mxfp4');
      await json([
        'quantize',
        shippedModel,
        '-f',
        'mxfp4',
        '--to',
        'safetensors',
        '-o',
        out,
        '--no-eval',
        '--no-verify',
      ]);
      const checkpoint = await openCheckpoint(path.join(out, 'qwen3-6m-mxfp4'));
      const written = [...checkpoint.tensors.values()].reduce((n, t) => n + t.byteLength, 0);
      await checkpoint.close();
      expect(written).toBe(estimate?.weightBytes);
    });
  });

  it('convert changes the container and nothing else, there and back', async () => {
    await inTemporaryFolder(async (folder) => {
      const gguf = path.join(folder, 'a.gguf');
      const back = path.join(folder, 'back');
      expect(await json(['convert', shippedModel, gguf])).toMatchObject({ tensorsCompared: 79 });
      expect(await json(['convert', gguf, back])).toMatchObject({ tensorsCompared: 79 });
      const [a, b] = [await openCheckpoint(shippedModel), await openCheckpoint(back)];
      const name = 'model.layers.3.self_attn.k_proj.weight';
      expect(Buffer.from(await b.read(name)).equals(Buffer.from(await a.read(name)))).toBe(true);
      await a.close();
      await b.close();
    });
  });

  it('formats tells bits, range and error', async () => {
    const { formats } = await json(['formats', 'mxfp4', 'int4-g32-asym', 'q4_k']);
    expect(formats).toMatchObject([
      { name: 'mxfp4', bits: 4.25 },
      { name: 'int4-g32-asym' },
      { name: 'q4_k', bits: 4.5 },
    ]);
  });

  it('help names every command and shows examples', async () => {
    const help = await subbyte(['--help']);
    expect(help.code).toBe(0);
    for (const name of ['quantize', 'eval', 'verify', 'generate', 'inspect', 'estimate', 'convert', 'formats'])
      expect(help.stdout).toContain(name);
    const command = await subbyte(['quantize', '--help']);
    expect(command.code).toBe(0);
    expect(command.stdout).toMatch(/Examples:\n {2}\$ subbyte quantize/);
  });
});
