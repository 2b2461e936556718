import { defineConfig } from "vite";

// One script and one style, without modules or chunks: the report holds both inside one file.
export default defineConfig({
  publicDir: false,
  build: {
    target: "es2020",
    outDir: "../../cluster/templates",
    emptyOutDir: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    license: { fileName: "report.licenses.txt" },
    rolldownOptions: {
      input: "src/main.ts",
      output: {
        format: "iife",
        entryFileNames: "report.js",
        assetFileNames: "report.[ext]",
      },
    },
  },
});
