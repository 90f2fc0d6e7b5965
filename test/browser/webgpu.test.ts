// WebGPU in a real browser: headless Chromium on SwiftShader, pages served from this machine, no network.
//
// Node's tests run every op case on the same software adapter (src/backends/webgpu/backend.test.ts). Here the point is
// the browser: code that reaches it, its WebGPU instead of Dawn's, files over HTTP. Compiling kernels takes nearly all
// the time, so one case has to do for each op, kind and types of operands; SUBBYTE_BROWSER_CASES=all runs them all.

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import { generate } from '../../src/evaluate/generate.ts';
import { windowLogits } from '../../src/evaluate/verify.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { loadTokenizer } from '../../src/io/tokenizer.ts';
import { type LoadedDecoder, loadDecoder } from '../../src/models/loaded.ts';
import { openWeights } from '../../src/models/weights.ts';
import { startBrowser, webgpuFlags } from '../support/browser.ts';
import { missingChromiumPackage } from '../support/chromium-package.ts';
import { bundlePage, type PageServer, servePage } from '../support/page-server.ts';

const missing = missingChromiumPackage();
const all = process.env.SUBBYTE_BROWSER_CASES === 'all';

/** Opens the page of these tests; what the browser warns of goes to `warnings`. */
async function openPage(browser: Browser, url: string, warnings: string[] = []): Promise<Page> {
  const page = await browser.newPage();
  page.on('console', (message) => void warnings.push(message.text()));
  page.on('pageerror', (error) => void warnings.push(String(error)));
  page.on('requestfailed', (request) => void warnings.push(`${request.url()} failed`));
  await page.goto(url);
  await page.waitForFunction(() => 'subbyte' in window);
  return page;
}

async function start() {
  const server = await servePage(await bundlePage('test/browser/webgpu-page'));
  const browser = await startBrowser(webgpuFlags);
  const warnings: string[] = [];
  const page = await openPage(browser, server.url, warnings);
  const opened = await page.evaluate((all) => window.subbyte.open(all), all);
  return { server, browser, page, warnings, ...opened };
}
const started = missing ? undefined : await start();
const because = missing ? ` (${missing})` : '';

describe.skipIf(!started)(`webgpu in Chromium${because}`, () => {
  const { server, browser, page, warnings, description, names } = started ?? ({ names: [] } as never);
  afterAll(async () => {
    await browser.close();
    await server.close();
  });

  it('opens SwiftShader', () => {
    expect(description).toBe('webgpu, google swiftshader');
  });

  describe(
    all ? 'every case that has kernels' : 'one case for each op, kind and operand types that have kernels',
    () => {
      it.each(names)('agrees with the reference in the page: %s', async (name) => {
        expect(await page.evaluate((name) => window.subbyte.check(name), name)).toEqual([]);
      });
    },
  );

  describe('qwen3-6m with its weights as stored, read by fetch', () => {
    let model: LoadedDecoder;
    beforeAll(async () => {
      const checkpoint = await openCheckpoint('models/qwen3-6m');
      model = await loadDecoder(await openWeights(checkpoint), await createWasmBackend({ threads: 1 }));
      await checkpoint.close();
    });
    afterAll(() => model.backend.dispose());

    it('has the logits of WASM in Node', async () => {
      const ids = Int32Array.from({ length: 24 }, (_, i) => (i * i * 31 + 7 * i) % 2048);
      const expected = await windowLogits({ model }, ids);
      const found = await page.evaluate((ids) => window.subbyte.logits('qwen3-6m/', ids), [...ids]);
      expect(found.length).toBe(expected.length);
      expect(Math.max(...found.map((x, i) => Math.abs(x - expected[i])))).toBeLessThan(1e-4);
    }, 120_000);

    it('continues a text as in Node, in the example page', async () => {
      const example = await servePage(await bundlePage('examples/browser-webgpu'));
      const tab = await browser.newPage();
      await tab.goto(example.url);
      await tab.getByRole('textbox').fill('The kernel');
      await tab.getByRole('spinbutton').fill('4'); // a token takes seconds on one core
      await tab.getByRole('button').click({ timeout: 50_000 });
      await tab.getByText(/tokens a second/).waitFor({ timeout: 100_000 });
      const checkpoint = await openCheckpoint('models/qwen3-6m');
      const tokenizer = await loadTokenizer(checkpoint);
      await checkpoint.close();
      const prompt = [...tokenizer.encode('The kernel')];
      const { tokens } = await generate(model, prompt, { maxTokens: 4, temperature: 0 });
      expect(await tab.locator('#text').textContent()).toBe(tokenizer.decode([...prompt, ...tokens]));
      await tab.close();
      await example.close();
    }, 120_000);
  });

  it('leaves no memory behind and makes the browser warn of nothing', async () => {
    expect(await page.evaluate(() => window.subbyte.usedBytes())).toBe(0);
    expect(warnings).toEqual([]);
  });

  it('says in every call that the device was lost, and opens again', async () => {
    await page.evaluate(() => window.subbyte.prepare());
    const session = await browser.newBrowserCDPSession();
    await session.send('Browser.crashGpuProcess');
    for (const text of await page.evaluate(() => window.subbyte.attempts()))
      expect(text).toMatch(
        /^SubbyteError: (run|read|upload|compile): the graphics device was lost \(.+\); open the backend again/,
      );
    await page.evaluate(() => window.subbyte.open(false));
    expect(await page.evaluate((name) => window.subbyte.check(name), names[0])).toEqual([]);
  });
});

/** What opening the backend says in a page where it cannot be opened. */
const refusal = (page: Page): Promise<string> => page.evaluate(() => window.subbyte.open(false).then(String, String));

describe.skipIf(missing)(`a browser without WebGPU${because}`, () => {
  let server: PageServer;
  let browser: Browser;
  beforeAll(async () => {
    server = await servePage(await bundlePage('test/browser/webgpu-page'));
    browser = await startBrowser(['--host-resolver-rules=MAP page.test 127.0.0.1']);
  });
  afterAll(async () => {
    await browser.close();
    await server.close();
  });

  it('says how to turn it on where there is no adapter', async () => {
    expect(await refusal(await openPage(browser, server.url))).toMatch(
      /no graphics adapter can be used; turn on hardware acceleration .*--enable-unsafe-webgpu.*, or choose the wasm/,
    );
  });

  it('says that the page has to be secure', async () => {
    expect(await refusal(await openPage(browser, `http://page.test:${server.port}/`))).toMatch(
      /not secure; serve the page over https, or open it as http:\/\/localhost$/,
    );
  });

  it('names browsers that have it where this one has not', async () => {
    const page = await openPage(browser, server.url);
    await page.evaluate(() => Object.defineProperty(navigator, 'gpu', { value: undefined }));
    expect(await refusal(page)).toMatch(/this browser has no WebGPU; use a current version of Chrome, .* or choose/);
  });
});

describe('pages', () => {
  it('cannot import modules of Node', async () => {
    await expect(bundlePage('test/browser/node-page')).rejects.toThrow(
      /io\/source-file\.ts imports node:fs\/promises, which/,
    );
  });
});
