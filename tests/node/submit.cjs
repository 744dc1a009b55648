// Sends a file as a form, asks until it is done, and prints where it plays: node submit.cjs BASE_URL FILE.
"use strict";
const fs = require("fs");
const FormData = require("form-data");
const fetch = require("node-fetch");

async function submit(base, path) {
  const form = new FormData();
  form.append("file", fs.createReadStream(path));
  form.append("quality_profile", "high");
  const sent = await fetch(`${base}/v1/stream/transcode`, { method: "POST", body: form });
  const { job_id } = await sent.json();
  for (;;) {
    const job = await (await fetch(`${base}/v1/stream/job/${job_id}`)).json();
    if (job.status === "Completed") return `${base}/v1/stream/hls/${job_id}/index.m3u8`;
    if (job.status.startsWith("Failed")) throw new Error(job.error);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

submit(...process.argv.slice(2)).then(console.log, (error) => { console.error(error); process.exit(1); });
