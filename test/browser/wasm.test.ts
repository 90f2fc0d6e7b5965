// The WebAssembly backend in a real browser: headless Chromium, pages served from this machine, no network.

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { opCases } from '../../src/backends/op-cases.ts';
import { startBrowser } from '../support/browser.ts';
import { missingChromiumPackage } from '../support/chromium-package.ts';
import { bundlePage, servePage } from '../support/page-server.ts';

const missing = missingChromiumPackage();

describe.skipIf(missing)(`wasm in Chromium${missing ? ` (${missing})` : ''}`, () => {
  let browser: Browser;
  let files: Awaited<ReturnType<typeof bundlePage>>;
  beforeAll(async () => {
    files = await bundlePage('test/browser/wasm-page');
    browser = await startBrowser([]);
  });
  afterAll(() => browser.close());

  const inPage = async <T>(isolated: boolean, work: (page: Page) => Promise<T>, served = files): Promise<T> => {
    const server = await servePage(served, isolated);
    const page = await browser.newPage();
    await page.goto(server.url);
    await page.waitForFunction(() => 'wasmPage' in window);
    const result = await work(page);
    await page.close();
    await server.close();
    return result;
  };

  it.each([
    { what: 'an ordinary page, on one thread', isolated: false, threads: undefined, description: /^wasm, 1 thread,/ },
    { what: 'an isolated page, on two threads', isolated: true, threads: 2, description: /^wasm, 2 threads,/ },
  ])('every case agrees with the reference in $what', async ({ isolated, threads, description }) => {
    const check = (page: Page) => page.evaluate((threads) => window.wasmPage.checkAll(threads), threads);
    const result = await inPage(isolated, check);
    expect(result.problems).toEqual([]);
    expect(result.cases).toBe(opCases.length);
    expect(result.description).toMatch(description);
  });

  /** What opening the backend says in a page where it cannot be opened. */
  const refusal = (page: Page): Promise<string> =>
    page.evaluate(() => window.wasmPage.checkAll(2).then(String, String));

  it('says what a page needs for threads', async () => {
    expect(await inPage(false, refusal)).toMatch(
      /cross-origin isolated may do, got 2 threads; serve the page with Cross-Origin-Opener-Policy: same-origin and/,
    );
  });

  it('says that kernels are not where the page is', async () => {
    const withoutKernels = new Map([...files].filter(([name]) => !name.endsWith('.wasm')));
    expect(await inPage(true, refusal, withoutKernels)).toMatch(
      /the compiled kernels engine\.wasm were not found; let the bundler copy them/,
    );
  });
});
