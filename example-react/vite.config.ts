import react from '@vitejs/plugin-react'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const source = (path: string): string => fileURLToPath(new URL(`../client/src/${path}`, import.meta.url))
// The page and the routes have one origin, as behind a proxy. `changeOrigin` would give sockets a host that is not the page's.
const target = { target: process.env.HOST_URL ?? 'http://127.0.0.1:3000', changeOrigin: false }

export default defineConfig({
  plugins: [react()],
  // In this repository the client is TypeScript; an app of its own installs it, and needs no alias.
  resolve: { alias: { 'fastify-realtime-client/react': source('react/index.ts'), 'fastify-realtime-client': source('index.ts') } },
  server: { proxy: { '/api': { ...target, ws: true }, '/login': target } }
})
