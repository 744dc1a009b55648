// Uploads a file with tus-js-client: node tus.cjs ENDPOINT FILE CHUNK_BYTES METADATA_JSON; prints what it was told.
"use strict";
const fs = require("fs");
const tus = require("tus-js-client");

const [endpoint, path, chunk, metadata] = process.argv.slice(2);
const told = { headers: {}, offsets: [] };
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  chunkSize: Number(chunk),
  uploadSize: fs.statSync(path).size,
  metadata: JSON.parse(metadata),
  retryDelays: [100, 200, 400, 800, 1600],
  onAfterResponse: (_, response) => { told.headers = { job: response.getHeader("Stream-Job-Id"), location: response.getHeader("Location") }; },
  onProgress: (sent) => told.offsets.push(sent),
  onError: (error) => { console.error(String(error)); process.exit(1); },
  onSuccess: () => console.log(JSON.stringify({ ...told, url: upload.url })),
});
upload.start();
