// Hub and HTTP against a local server that answers like huggingface.co, breaks connections and counts what is asked.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Checkpoint } from '../../src/io/checkpoint.ts';
import { openText } from '../../src/io/datasets.ts';
import { chooseFile, parseDatasetReference } from '../../src/io/datasets-hub.ts';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { httpWhole } from '../../src/io/http-whole.ts';
import { parseHubReference } from '../../src/io/hub.ts';
import { hubCacheFolder } from '../../src/io/hub-cache.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { openSafetensorsUrl } from '../../src/io/safetensors-url.ts';
import { openHttp } from '../../src/io/source-http.ts';
import { subbyte } from '../cli/run-cli.ts';
import { bytesOf, qwen, scratchFolder } from './io-scratch.ts';

const folder = scratchFolder();
const commit = '0123456789abcdef0123456789abcdef01234567';
const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];

/** Repositories by name: path → bytes. */
const repositories = new Map<string, Map<string, Uint8Array>>();
let requests: { path: string; range: string | undefined; token: string | undefined }[] = [];
/** Bytes that were sent, by file. */
const served = new Map<string, number>();
/** Bytes after which the next answer for a path breaks off. */
const cuts = new Map<string, number[]>();
let failures: number[] = [];
let ranges = true;
let server: Server;
let endpoint: string;

const sha256 = (b: Uint8Array) => createHash('sha256').update(b).digest('hex');
const gitOid = (b: Uint8Array) => createHash('sha1').update(`blob ${b.byteLength}\0`).update(b).digest('hex');

function answer(request: IncomingMessage, response: ServerResponse): void {
  const path = decodeURIComponent(new URL(request.url!, endpoint).pathname);
  requests.push({ path, range: request.headers.range, token: request.headers.authorization });
  const failure = failures.shift();
  if (failure) return void response.writeHead(failure).end();
  const json = (value: unknown) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  const info = /^\/api\/(?:models\/(\w+\/\w+)|(datasets\/\w+\/\w+))\/revision\/(.+)$/.exec(path);
  const known = info && (info[1] ?? info[2]);
  if (known && repositories.has(known) && ['main', 'v1', 'refs/convert/parquet', commit].includes(info[3]))
    return void json({ _id: '1', id: known, sha: commit, lastModified: '2026-01-01' });
  if (/^\/api\/(models|datasets)\/secret\//.test(path)) return void response.writeHead(401).end();
  const tree = /^\/api\/(?:models\/(\w+\/\w+)|(datasets\/\w+\/\w+))\/tree\/(.+)$/.exec(path);
  if (tree && tree[3] === commit)
    return void json(
      [...repositories.get(tree[1] ?? tree[2])!].map(([name, b]) => ({
        type: 'file',
        path: name,
        size: b.byteLength,
        oid: gitOid(b),
        ...(b.byteLength > 200_000 ? { lfs: { oid: sha256(b), size: b.byteLength, pointerSize: 130 } } : {}),
      })),
    );
  const file = /^\/((?:datasets\/)?\w+\/\w+)\/resolve\/(\w+)\/(.+)$/.exec(path);
  const bytes = file && repositories.get(file[1])?.get(file[3]);
  if (!bytes) return void response.writeHead(404).end();
  send(request, response, bytes, file[3], cuts.get(file[3])?.shift());
}

function send(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, name: string, cut?: number): void {
  const match = ranges ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') : null;
  const begin = match ? Number(match[1]) : 0;
  const end = match?.[2] ? Math.min(Number(match[2]) + 1, bytes.byteLength) : bytes.byteLength;
  const part = bytes.subarray(begin, end);
  const headers: Record<string, string | number> = { 'content-length': part.byteLength, etag: `"${sha256(bytes)}"` };
  if (match) headers['content-range'] = `bytes ${begin}-${end - 1}/${bytes.byteLength}`;
  response.writeHead(match ? 206 : 200, headers);
  served.set(name, (served.get(name) ?? 0) + part.byteLength);
  if (cut === undefined) return void response.end(part);
  response.write(part.subarray(0, cut), () => setTimeout(() => response.destroy(), 20));
}

beforeAll(async () => {
  const files = readdirSync(qwen).map((n): [string, Uint8Array] => [n, bytesOf(join(qwen, n))]);
  repositories.set(
    'org/qwen',
    new Map([...files, ['README.md', Buffer.from('x')], ['pytorch_model.bin', Buffer.from('x')]]),
  );
  repositories.set(
    'org/pickle',
    new Map([
      ['config.json', Buffer.from('{}')],
      ['pytorch_model.bin', Buffer.from('x')],
    ]),
  );
  repositories.set(
    'org/many',
    new Map([
      ['a.gguf', Buffer.from('x')],
      ['b.gguf', Buffer.from('x')],
    ]),
  );
  repositories.set('org/escape', new Map([['../../evil.safetensors', Buffer.from('x')]]));
  server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  requests = [];
  served.clear();
  cuts.clear();
  failures = [];
  ranges = true;
});

let caches = 0;
const freshEnv = (more: Record<string, string> = {}) => ({
  HF_HUB_CACHE: join(folder, `cache-${caches++}`),
  HF_ENDPOINT: endpoint,
  ...more,
});
const asked = (part: string) => requests.filter((r) => r.path.includes(part));

describe('names', () => {
  it('parse', () => {
    expect(parseHubReference('hf:org/name')).toEqual({ name: 'org/name', revision: 'main' });
    expect(parseHubReference('org/na.me@v1.0')).toEqual({ name: 'org/na.me', revision: 'v1.0' });
    expect(parseHubReference('hf:org/name/sub/x.gguf@abc')).toEqual({
      name: 'org/name',
      revision: 'abc',
      file: 'sub/x.gguf',
    });
    for (const bad of ['hf:name', 'a/b/../c', '../a/b', '/a/b', 'a b/c', 'a/b@../x'])
      expect(parseHubReference(bad)).toBeUndefined();
  });

  it('find the cache as the Python client does', () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: '/a', HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' })).toBe('/a');
    expect(hubCacheFolder({ HUGGINGFACE_HUB_CACHE: '/b', HF_HOME: '/c' })).toBe('/b');
    expect(hubCacheFolder({ HF_HOME: '/c', XDG_CACHE_HOME: '/d' })).toBe('/c/hub');
    expect(hubCacheFolder({ XDG_CACHE_HOME: '/d' })).toBe('/d/huggingface/hub');
    expect(hubCacheFolder({})).toMatch(/\/\.cache\/huggingface\/hub$/);
  });
});

describe('download', () => {
  it('fills the cache in the Python layout with the files that are needed, then works offline', async () => {
    const env = freshEnv({ HF_TOKEN: 'hf_test' });
    const progress: string[] = [];
    const model = await openCheckpoint('hf:org/qwen', {
      env,
      onProgress: ({ file, done, total }) => done === total && progress.push(file),
    });
    expect(model.tensors.size).toBe(79);
    expect(model.location).toBe('hf:org/qwen');
    expect(await model.sidecar('config.json')).toEqual(bytesOf(join(qwen, 'config.json')));
    await model.close();
    expect(progress).toContain(shards[1]);
    expect(asked('README.md')).toEqual([]);
    expect(asked('pytorch_model.bin')).toEqual([]);
    expect(requests.every((r) => r.token === 'Bearer hf_test')).toBe(true);

    const root = join(env.HF_HUB_CACHE, 'models--org--qwen');
    expect(readFileSync(join(root, 'refs/main'), 'utf8')).toBe(commit);
    const pointer = join(root, 'snapshots', commit, shards[0]);
    const blob = sha256(bytesOf(join(qwen, shards[0])));
    expect(readlinkSync(pointer)).toBe(`../../blobs/${blob}`);
    expect(Buffer.compare(bytesOf(pointer), bytesOf(join(qwen, shards[0])))).toBe(0);
    const config = gitOid(bytesOf(join(qwen, 'config.json')));
    expect(existsSync(join(root, 'blobs', config))).toBe(true);

    requests = [];
    const offline = await openCheckpoint('org/qwen', { env: { ...env, HF_HUB_OFFLINE: '1' } });
    await offline.close();
    expect(requests).toEqual([]);
    const again = await openCheckpoint('org/qwen', { env });
    await again.close();
    expect(asked('/resolve/')).toEqual([]);
    const unreachable = await openCheckpoint('org/qwen', { env: { ...env, HF_ENDPOINT: 'http://127.0.0.1:9' } });
    await unreachable.close();
  });

  it('goes on after connections that break in the middle, asking only for the rest', async () => {
    const env = freshEnv();
    cuts.set(shards[0], [3_000_000, 0, 2_000_000]);
    const model = await openCheckpoint('hf:org/qwen@v1', { env, pause: 1 });
    await model.close();
    const begins = asked(shards[0]).map((r) => Number(/bytes=(\d+)-/.exec(r.range!)![1]));
    expect(begins).toHaveLength(4);
    expect(begins[0]).toBe(0);
    expect(begins[1]).toBeGreaterThan(0);
    expect(begins[3]).toBeGreaterThan(begins[1]);
    const root = join(env.HF_HUB_CACHE, 'models--org--qwen');
    expect(readFileSync(join(root, 'refs/v1'), 'utf8')).toBe(commit);
    const bytes = bytesOf(join(root, 'snapshots', commit, shards[0]));
    expect(sha256(bytes)).toBe(sha256(bytesOf(join(qwen, shards[0]))));
    expect(readdirSync(join(root, 'blobs')).some((n) => n.endsWith('.incomplete'))).toBe(false);
  });

  it('an interrupted download continues in the next run', async () => {
    const env = freshEnv();
    const abort = new AbortController();
    const onProgress = ({ file, done }: { file: string; done: number }) => {
      if (file === shards[0] && done > 1_000_000) abort.abort();
    };
    cuts.set(shards[0], [4_000_000]);
    const first = openCheckpoint('hf:org/qwen', { env, signal: abort.signal, onProgress, pause: 1 });
    await expect(first).rejects.toMatchObject({ kind: 'interrupted', exitCode: 130 });
    requests = [];
    const model = await openCheckpoint('hf:org/qwen', { env });
    await model.close();
    expect(Number(/bytes=(\d+)-/.exec(asked(shards[0])[0].range!)![1])).toBeGreaterThan(1_000_000);
  });

  it('survives 503 and 429, gives up after five tries without a byte', async () => {
    failures = [503, 429];
    const source = await openHttp(`${endpoint}/org/qwen/resolve/${commit}/config.json`, { pause: 1 });
    expect(source.size).toBe(939);
    failures = [500, 500, 500, 500, 500];
    await expect(source.read(0, 10)).rejects.toThrow(
      /no answer after 5 attempts \(status 500\).*what has arrived is kept/,
    );
  });

  it('removes a download whose hash is wrong', async () => {
    const env = freshEnv();
    const root = join(env.HF_HUB_CACHE, 'models--org--qwen/blobs');
    mkdirSync(root, { recursive: true });
    const blob = join(root, `${sha256(bytesOf(join(qwen, shards[1])))}.incomplete`);
    writeFileSync(blob, new Uint8Array(1000));
    await expect(openCheckpoint('hf:org/qwen', { env })).rejects.toThrow(/model-00002.*does not have the hash/);
    expect(existsSync(blob)).toBe(false);
    await (await openCheckpoint('hf:org/qwen', { env })).close();
  });

  it('says what is wrong with a name or a repository', async () => {
    const open = (reference: string, more = {}) => openCheckpoint(reference, { env: freshEnv(more) });
    await expect(open('hf:org/absent')).rejects.toThrow(/no such model, revision or file.*hf:org\/absent/);
    await expect(open('hf:secret/model')).rejects.toThrow(/asks for a token.*HF_TOKEN/);
    await expect(open('hf:org/pickle')).rejects.toThrow(/pickled.*any code.*hf:org\/pickle.*safetensors/);
    await expect(open('hf:org/many')).rejects.toThrow(/2 models: a\.gguf, b\.gguf.*hf:org\/many\/a\.gguf/);
    await expect(open('hf:org/qwen/nothing.gguf')).rejects.toThrow(/no such file, got nothing\.gguf/);
    await expect(open('hf:org/escape')).rejects.toThrow(/no \.safetensors and no \.gguf/);
    await expect(open('hf:org/qwen', { HF_HUB_OFFLINE: '1' })).rejects.toThrow(/HF_HUB_OFFLINE is set/);
    await expect(open('hf:org/qwen', { HF_ENDPOINT: 'http://127.0.0.1:9' })).rejects.toMatchObject({ kind: 'device' });
  });
});

describe('a model that stays on the hub', () => {
  const tensorsOf = (model: Checkpoint) =>
    [...model.tensors.values()].map(({ name, dtype, shape, byteOffset }) => ({ name, dtype, shape, byteOffset }));
  const total = () => [...served.values()].reduce((a, b) => a + b, 0);
  /** Bytes of a safetensors header with its length. */
  const headerBytes = (name: string) =>
    8 + Number(new DataView(bytesOf(join(qwen, name)).buffer).getBigUint64(0, true));

  it('is opened by its headers; nothing is stored', async () => {
    const env = freshEnv({ HF_TOKEN: 'hf_test' });
    const onProgress = () => expect.fail('nothing is downloaded');
    const model = await openCheckpoint('hf:org/qwen@v1', { env, remote: true, onProgress });
    const local = await openCheckpoint(qwen);
    expect(model.location).toBe('hf:org/qwen@v1');
    expect(tensorsOf(model)).toEqual(tensorsOf(local));
    // the first request for a shard takes 16 KiB, in which both headers lie
    for (const shard of shards) {
      expect(headerBytes(shard)).toBeLessThan(2 ** 14);
      expect(served.get(shard)).toBe(2 ** 14);
      expect(asked(shard)).toHaveLength(1);
    }
    expect([...served.keys()].sort()).toEqual([...shards, 'model.safetensors.index.json']);
    expect(await model.sidecar('config.json')).toEqual(await local.sidecar('config.json'));
    expect(await model.sidecar('absent.json')).toBeUndefined();
    expect(asked('config.json')).toHaveLength(1);
    const small = bytesOf(join(qwen, 'model.safetensors.index.json')).byteLength + served.get('config.json')!;
    expect(total()).toBe(2 ** 15 + small);
    const name = 'model.layers.3.mlp.down_proj.weight';
    expect(Buffer.compare(await model.read(name), await local.read(name))).toBe(0);
    expect(total()).toBe(2 ** 15 + small + model.tensors.get(name)!.byteLength);
    expect(requests.every((r) => r.token === 'Bearer hf_test')).toBe(true);
    expect(existsSync(env.HF_HUB_CACHE)).toBe(false);
    await local.close();
  });

  it('a long GGUF header comes in pieces, none of them twice', async () => {
    const path = join(folder, 'long.gguf');
    const rows = 4096;
    const tokens = Array.from({ length: 120_000 }, (_, i) => `token ${i}`);
    await writeGguf({
      path,
      metadata: [
        { key: 'general.architecture', type: 'string', value: 'llama' },
        { key: 'tokenizer.ggml.tokens', type: 'string[]', value: tokens },
      ],
      tensors: [
        {
          name: 'w',
          dtype: 'I8',
          shape: [rows, 4096],
          byteLength: rows * 4096,
          data: async () => new Uint8Array(rows * 4096),
        },
      ],
    });
    const bytes = bytesOf(path);
    repositories.set('org/gguf', new Map([['sub/long.gguf', bytes]]));
    const header = bytes.byteLength - rows * 4096;
    for (const reference of ['hf:org/gguf', 'hf:org/gguf/sub/long.gguf']) {
      served.clear();
      requests = [];
      const model = await openCheckpoint(reference, { env: freshEnv(), remote: true });
      expect(model.metadata.get('tokenizer.ggml.tokens')).toEqual(tokens);
      expect(model.tensors.get('w')!.shape).toEqual([rows, 4096]);
      expect(header).toBeGreaterThan(2 ** 21);
      expect(total()).toBeLessThan(2 * header);
      const ranges = asked('/resolve/').map((r) => /bytes=(\d+)-(\d+)/.exec(r.range!)!.slice(1).map(Number));
      for (const [i, [begin]] of ranges.entries()) expect(begin).toBe(i === 0 ? 0 : ranges[i - 1][1] + 1);
    }
  });

  it('is read from the cache when that has it whole, or when the hub is out of reach', async () => {
    const env = freshEnv();
    await (await openCheckpoint('hf:org/qwen', { env })).close();
    const open = async (more: Record<string, string>) => {
      requests = [];
      const model = await openCheckpoint('hf:org/qwen', { env: { ...env, ...more }, remote: true });
      expect(model.tensors.size).toBe(79);
      await model.close();
    };
    await open({});
    expect(asked('/resolve/')).toEqual([]);
    await open({ HF_HUB_OFFLINE: '1' });
    expect(requests).toEqual([]);
    await open({ HF_ENDPOINT: 'http://127.0.0.1:9' });
    rmSync(join(env.HF_HUB_CACHE, 'models--org--qwen/snapshots', commit, shards[1]));
    await open({});
    expect(asked(shards[1])).toHaveLength(1);
  });

  it('says what is wrong, as a download does', async () => {
    const open = (reference: string, more = {}) => openCheckpoint(reference, { env: freshEnv(more), remote: true });
    await expect(open('hf:org/absent')).rejects.toThrow(/no such model, revision or file.*hf:org\/absent/);
    await expect(open('hf:secret/model')).rejects.toThrow(/asks for a token.*HF_TOKEN/);
    await expect(open('hf:org/pickle')).rejects.toThrow(/pickled/);
    await expect(open('hf:org/many')).rejects.toThrow(/2 models: a\.gguf, b\.gguf/);
    await expect(open('hf:org/many/a.gguf')).rejects.toThrow(/a\.gguf/);
    await expect(open('hf:org/qwen', { HF_HUB_OFFLINE: '1' })).rejects.toThrow(/HF_HUB_OFFLINE is set/);
    const index = 'model.safetensors.index.json';
    const broken = (text: string) => repositories.set('org/broken', new Map([[index, Buffer.from(text)]]));
    broken('{"weight_map":{"w":"absent.safetensors"}}');
    await expect(open('hf:org/broken')).rejects.toThrow(/absent\.safetensors is missing/);
    broken('{"weight_map":{"w":"../x.safetensors"}}');
    await expect(open('hf:org/broken')).rejects.toThrow(/no plain file name/);
    await expect(openCheckpoint('hf:org/broken', { env: freshEnv() })).rejects.toThrow(/no plain file name/);
  });

  it('estimate and inspect fetch no weights', async () => {
    const env = freshEnv();
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    const json = async (...args: string[]) => {
      const { code, stdout, stderr } = await subbyte([...args, '--json']);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout);
    };
    const remote = await json('estimate', 'org/qwen', '-f', 'mxfp4');
    expect(total()).toBeLessThan(2 ** 16);
    served.clear();
    const listed = await json('inspect', 'org/qwen');
    expect(total()).toBeLessThan(2 ** 16);
    expect(existsSync(env.HF_HUB_CACHE)).toBe(false);
    vi.unstubAllEnvs();
    const local = await openCheckpoint(qwen);
    const bytes = [...local.tensors.values()].reduce((n, t) => n + t.byteLength, 0);
    await local.close();
    expect(listed.tensors).toHaveLength(79);
    expect(listed.bytes).toBe(bytes);
    expect(remote.formats[0]).toMatchObject({ format: 'as stored', weightBytes: bytes });
  }, 30_000);
});

describe('data sets', () => {
  const jsonl = Array.from({ length: 20_000 }, (_, i) => `{"text":"row ${i}"}\n`).join('');
  const readAll = async (reference: string, env: Record<string, string>) => {
    const { source, stream } = await openText(reference, { env, pause: 1 });
    let text = '';
    for await (const piece of stream()) text += piece;
    return { source, text };
  };
  beforeAll(() => {
    repositories.set(
      'datasets/org/chats',
      new Map([
        ['README.md', Buffer.from('# x')],
        ['data/test.jsonl', Buffer.from('{"text":"test"}')],
        ['data/train-00001-of-00002.jsonl', Buffer.from('{"text":"second"}')],
        ['data/train-00000-of-00002.jsonl', Buffer.from(jsonl)],
      ]),
    );
    repositories.set('datasets/org/plain', new Map([['corpus.txt', Buffer.from('plain text')]]));
    repositories.set('datasets/org/csv', new Map([['train.csv', Buffer.from('a,b')]]));
  });

  it('names parse', () => {
    const main = { name: 'datasets/org/na.me', revision: 'main' };
    expect(parseDatasetReference('hf:datasets/org/na.me')).toEqual(main);
    expect(parseDatasetReference('hf:datasets/org/na.me/a/b.txt')).toEqual({ ...main, file: 'a/b.txt' });
    expect(parseDatasetReference('hf:datasets/org/na.me@v1/a/b.txt')).toEqual({
      ...main,
      revision: 'v1',
      file: 'a/b.txt',
    });
    const converted = { ...main, revision: 'refs/convert/parquet', file: 'default/train/0000.parquet' };
    const path = 'default/train/0000.parquet';
    expect(parseDatasetReference(`hf:datasets/org/na.me@refs/convert/parquet/${path}`)).toEqual(converted);
    expect(parseDatasetReference(`hf:datasets/org/na.me@refs%2Fconvert%2Fparquet/${path}`)).toEqual(converted);
    for (const bad of ['hf:datasets/org', 'hf:datasets/../x', 'hf:datasets/a/b/../../c', 'hf:datasets/a/b@../c', 'x'])
      expect(() => parseDatasetReference(bad), bad).toThrow(/names no data set.*hf:datasets\/org\/name/);
  });

  it('choose the first file of the train split', () => {
    const choose = (...names: string[]) => chooseFile(names, { name: 'datasets/o/n', revision: 'main' });
    expect(choose('test.jsonl', 'train-1.jsonl', 'train-0.jsonl')).toBe('train-0.jsonl');
    expect(choose('plain_text/train/0000.parquet', 'plain_text/test/0000.parquet')).toBe(
      'plain_text/train/0000.parquet',
    );
    expect(choose('en_train.jsonl.gz', 'a.txt')).toBe('en_train.jsonl.gz');
    expect(choose('b.txt', 'a.txt', 'README.txt', 'LICENSE.txt', '.x.txt')).toBe('a.txt');
    expect(() => choose('trainer.txt', 'test.txt')).toThrow(
      /no file names the train split, got test\.txt, trainer\.txt/,
    );
    expect(() => choose('train.csv', 'x.bin')).toThrow(/no file is JSONL, text or Parquet, got train\.csv, x\.bin/);
    expect(() => choose()).toThrow(/got no files/);
  });

  it('come into the cache in the Python layout, only the file that is needed, and work offline', async () => {
    const env = freshEnv({ HF_TOKEN: 'hf_test' });
    const { source, text } = await readAll('hf:datasets/org/chats', env);
    expect(source).toBe(`hf:datasets/org/chats@${commit}/data/train-00000-of-00002.jsonl`);
    expect(text.startsWith('row 0\n\nrow 1\n\n')).toBe(true);
    expect(text.endsWith('\n\nrow 19999')).toBe(true);
    expect([...served.keys()]).toEqual(['data/train-00000-of-00002.jsonl']);
    expect(requests.every((r) => r.token === 'Bearer hf_test')).toBe(true);
    const root = join(env.HF_HUB_CACHE, 'datasets--org--chats');
    expect(readFileSync(join(root, 'refs/main'), 'utf8')).toBe(commit);
    expect(readlinkSync(join(root, 'snapshots', commit, 'data/train-00000-of-00002.jsonl'))).toBe(
      `../../../blobs/${sha256(Buffer.from(jsonl))}`,
    );
    requests = [];
    expect(await readAll('hf:datasets/org/chats', { ...env, HF_HUB_OFFLINE: '1' })).toEqual({ source, text });
    expect(await readAll(source, { ...env, HF_HUB_OFFLINE: '1' })).toEqual({ source, text });
    expect(requests).toEqual([]);
    expect(await readAll('hf:datasets/org/chats', { ...env, HF_ENDPOINT: 'http://127.0.0.1:9' })).toEqual({
      source,
      text,
    });
    const converted = await readAll('hf:datasets/org/chats@refs/convert/parquet/data/test.jsonl', env);
    expect(converted.text).toBe('test');
    expect((await readAll('hf:datasets/org/plain', env)).text).toBe('plain text');
  });

  it('go on after a connection that breaks', async () => {
    const env = freshEnv();
    const name = 'data/train-00000-of-00002.jsonl';
    cuts.set(name, [100_000]);
    const { text } = await readAll('hf:datasets/org/chats', env);
    expect(text.endsWith('row 19999')).toBe(true);
    const begins = asked(name).map((r) => Number(/bytes=(\d+)-/.exec(r.range!)![1]));
    expect(begins).toHaveLength(2);
    expect(begins[1]).toBeGreaterThan(0);
  });

  it('say what is wrong with a name or what there is', async () => {
    const read = (reference: string, more = {}) => readAll(reference, freshEnv(more));
    await expect(read('hf:datasets/org/absent')).rejects.toThrow(
      /no such data set, revision or file.*hf:datasets\/org\/absent/,
    );
    await expect(read('hf:datasets/secret/x')).rejects.toThrow(/HF_TOKEN to a token that may read the data set/);
    await expect(read('hf:datasets/org/chats/data/tran.jsonl')).rejects.toThrow(
      /no such file, got data\/tran\.jsonl, expected one of data\/test\.jsonl, .*did you mean data\/test\.jsonl/,
    );
    await expect(read('hf:datasets/org/csv')).rejects.toThrow(/no file is JSONL, text or Parquet, got train\.csv/);
    await expect(read('hf:datasets/org/chats', { HF_HUB_OFFLINE: '1' })).rejects.toThrow(
      /^open data set: HF_HUB_OFFLINE is set/,
    );
  });
});

describe('reading by URL', () => {
  const url = () => `${endpoint}/org/qwen/resolve/${commit}/${shards[1]}`;

  it('reads header and tensors by ranges, through cuts', async () => {
    const model = await openCheckpoint(url(), { pause: 1 });
    expect(model.tensors.size).toBeGreaterThan(0);
    const total = requests.length;
    cuts.set(shards[1], [100]);
    const norm = await model.read('model.norm.weight');
    expect(requests.length).toBe(total + 2);
    const local = await openCheckpoint(qwen);
    expect(norm).toEqual(await local.read('model.norm.weight'));
    expect(await model.sidecar('config.json')).toEqual(await local.sidecar('config.json'));
    expect(await model.sidecar('absent.json')).toBeUndefined();
    await local.close();
  });

  it('reads all shards of an index, and of a folder', async () => {
    const local = await openCheckpoint(qwen);
    const folderUrl = `${endpoint}/org/qwen/resolve/${commit}/`;
    const indexed = await openCheckpoint(`${folderUrl}model.safetensors.index.json`);
    for (const model of [indexed, await openSafetensorsUrl(folderUrl)]) {
      expect([...model.tensors.keys()]).toEqual([...local.tensors.keys()]);
      for (const name of ['model.embed_tokens.weight', 'model.norm.weight'])
        expect(Buffer.compare(await model.read(name), await local.read(name))).toBe(0);
      expect(await model.sidecar('config.json')).toEqual(await local.sidecar('config.json'));
    }
    await local.close();
  });

  it('reads the one file of a folder without an index', async () => {
    repositories.set('org/single', new Map([['model.safetensors', repositories.get('org/qwen')!.get(shards[1])!]]));
    const model = await openSafetensorsUrl(`${endpoint}/org/single/resolve/${commit}/`);
    expect(model.tensors.has('model.norm.weight')).toBe(true);
  });

  it('names the file that is missing, and refuses an index that is none', async () => {
    const missing = `${endpoint}/org/qwen/resolve/${commit}/none/`;
    await expect(openSafetensorsUrl(missing)).rejects.toThrow(/no such model.*none\/model\.safetensors/);
    repositories.set('org/page', new Map([['model.safetensors.index.json', Buffer.from('<!doctype html>')]]));
    const page = openSafetensorsUrl(`${endpoint}/org/page/resolve/${commit}/`);
    await expect(page).rejects.toThrow(/the shard index is no valid JSON/);
  });

  it('keeps nothing of a file that is larger than it may be, whatever the server says', async () => {
    const check = (bytes: number) => {
      if (bytes > 1000) throw new Error(`${bytes} bytes`);
    };
    await expect(httpWhole(url(), check)).rejects.toThrow(/^\d{6,} bytes$/);
    expect(await httpWhole(`${url()}.absent`, check)).toBeUndefined();
  });

  it('reads from a server without ranges, only more slowly', async () => {
    ranges = false;
    const source = await openHttp(url());
    expect(await source.read(100_000, 64)).toEqual(bytesOf(join(qwen, shards[1])).subarray(100_000, 100_064));
    await expect(source.read(source.size - 1, 2)).rejects.toThrow(/outside the file/);
  });

  it('notices that the file changed', async () => {
    const source = await openHttp(url());
    const files = repositories.get('org/qwen')!;
    const original = files.get(shards[1])!;
    files.set(shards[1], original.slice().fill(7, 0, 4));
    await expect(source.read(0, 8)).rejects.toThrow(/changed on the server/);
    files.set(shards[1], original);
  });
});
