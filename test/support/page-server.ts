// A page for browser tests: bundled by Vite, served together with the project's models from this machine.

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isBuiltin } from 'node:module';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin, type Rolldown } from 'vite';

const project = fileURLToPath(new URL('../..', import.meta.url));
const models = path.join(project, 'models');
const types: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/**
 * Vite would put an empty module in place of `node:fs` and its like, and the page would fail only when it runs. Dynamic
 * imports may stay, for code that first asks where it runs.
 */
const refuseNode: Plugin = {
  name: 'refuse-node',
  enforce: 'pre',
  resolveId(source, importer, { kind }) {
    if (!isBuiltin(source)) return undefined;
    if (kind === 'dynamic-import') return { id: source, external: true };
    throw new Error(`${importer} imports ${source}, which browsers do not have`);
  },
};

/** Bundles the page `folder`/index.html (of this project): files by name. Throws where a module of Node is imported. */
export async function bundlePage(folder: string): Promise<Map<string, string | Uint8Array>> {
  const result = await build({
    root: path.join(project, folder),
    configFile: false,
    logLevel: 'silent',
    plugins: [refuseNode],
    build: { write: false, target: 'esnext', minify: false },
  });
  const { output } = result as Rolldown.RolldownOutput;
  return new Map(output.map((file) => [file.fileName, file.type === 'chunk' ? file.code : file.source]));
}

export interface PageServer {
  readonly port: number;
  /** With a host that counts as secure, http://localhost:port/. */
  readonly url: string;
  close(): Promise<void>;
}

/** What a page has to be served with for memory that threads share. */
const isolation = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

/**
 * Serves the files of a page, and everything under models/ by its name there (/qwen3-6m/config.json). An isolated page
 * may share memory between threads.
 */
export async function servePage(
  files: ReadonlyMap<string, string | Uint8Array>,
  isolated = false,
): Promise<PageServer> {
  const server = createServer((request, response) => {
    if (isolated) response.setHeaders(new Map(Object.entries(isolation)));
    const name = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname).slice(1) || 'index.html';
    const body = files.get(name);
    if (body === undefined) return void sendModelFile(path.join(models, path.normalize(`/${name}`)), request, response);
    response.setHeader('Content-Type', types[path.extname(name)] ?? 'application/octet-stream');
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://localhost:${port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** A file, or the part that the request's Range header asks for. */
async function sendModelFile(file: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const info = await stat(file).catch(() => undefined);
  if (!info?.isFile()) return void response.writeHead(404).end();
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(range?.[2] ? Number(range[2]) : Infinity, info.size - 1);
  if (start > end) return void response.writeHead(416).end();
  response.writeHead(range ? 206 : 200, {
    'Content-Length': end - start + 1,
    ...(range && { 'Content-Range': `bytes ${start}-${end}/${info.size}` }),
  });
  createReadStream(file, { start, end }).pipe(response);
}
