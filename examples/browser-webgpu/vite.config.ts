import { defineConfig } from 'vite';

export default defineConfig({
  // Served beside the page: /qwen3-6m/config.json and its like.
  publicDir: '../../models',
  // A file that is not there is an error (404), not the page once more.
  appType: 'mpa',
  // The sources of subbyte lie outside this folder.
  server: { fs: { allow: ['../..'] } },
  build: { target: 'esnext' },
});
