// Plays one job: its sound by hls.js, or by the browser itself where that speaks HLS; the waveform is also the slider.
"use strict";

const job = JSON.parse(document.getElementById("job").textContent);
const audio = document.getElementById("audio");
const canvas = document.getElementById("waveform");
const play = document.getElementById("play");
const mute = document.getElementById("mute");
const volume = document.getElementById("volume");
const state = document.getElementById("state");
const STEP_S = 5;
const RECOVERY_S = 5; // an error of the decoder that comes back sooner is there to stay

let peaks = null; // pairs of lowest and highest, -1 to 1
let source = "";

// Sound

function load(address) {
  source = address;
  if (window.Hls && Hls.isSupported()) {
    // Without a worker: it would be made from a blob, which the page's policy does not allow.
    const hls = new Hls({ enableWorker: false, startPosition: 0 });
    let recoveredAt = -Infinity;
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (!error.fatal) return;
      const now = performance.now() / 1000;
      if (error.type === Hls.ErrorTypes.MEDIA_ERROR && now - recoveredAt > RECOVERY_S) {
        recoveredAt = now;
        hls.recoverMediaError();
        return;
      }
      say("The sound cannot be loaded.");
    });
    hls.loadSource(address);
    hls.attachMedia(audio);
  } else {
    audio.src = address;
  }
}

function length() {
  return Number.isFinite(audio.duration) && !isLive() ? audio.duration : job.duration_s || audio.duration || 0;
}

function isLive() {
  return source === job.live;
}

function playable() {
  return audio.seekable.length ? audio.seekable.end(audio.seekable.length - 1) : 0;
}

// What it looks like

function draw() {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const played = length() ? (audio.currentTime / length()) * width : 0;
  context.scale(scale, scale);
  const bar = 3, gap = 2, middle = height / 2;
  for (let x = 0; x + bar <= width; x += bar + gap) {
    const size = Math.max(2, loudest(x / width, (x + bar + gap) / width) * (height - 4));
    context.fillStyle = style.getPropertyValue(x < played ? "--accent" : "--wave");
    context.beginPath();
    context.roundRect(x, middle - size / 2, bar, size, 1.5);
    context.fill();
  }
  canvas.setAttribute("aria-valuemax", Math.round(length()));
  canvas.setAttribute("aria-valuenow", Math.round(audio.currentTime));
  canvas.setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(length())}`);
  document.getElementById("now").textContent = clock(audio.currentTime);
  document.getElementById("length").textContent = clock(length());
}

function loudest(from, to) {
  if (!peaks) return 0.06;
  const last = peaks.length / 2;
  const first = Math.floor(from * last);
  let high = 0;
  for (let i = first; i < Math.max(first + 1, Math.min(last, to * last)); i++) {
    high = Math.max(high, Math.abs(peaks[2 * i]), Math.abs(peaks[2 * i + 1]));
  }
  return high;
}

function follow() {
  draw();
  if (!audio.paused) requestAnimationFrame(follow);
}

function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–:––";
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function say(text) {
  state.textContent = text;
}

async function showWaveform() {
  const answer = await fetch(job.waveform);
  if (!answer.ok) return;
  const found = await answer.json();
  const highest = 2 ** (found.bits - 1);
  const channels = found.channels || 1;
  peaks = [];
  for (let i = 0; i < found.data.length; i += 2 * channels) {
    let low = 0, high = 0;
    for (let channel = 0; channel < channels; channel++) {
      low = Math.min(low, found.data[i + 2 * channel] / highest);
      high = Math.max(high, found.data[i + 2 * channel + 1] / highest);
    }
    peaks.push(low, high);
  }
  // A quiet piece is drawn as high as a loud one: its loudness stands below in numbers.
  const loudest = peaks.reduce((most, peak) => Math.max(most, Math.abs(peak)), 0.02);
  peaks = peaks.map((peak) => peak / loudest);
  draw();
}

async function showFacts() {
  // The page of a job that is complete has its picture and its loudness.
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const cover = page.querySelector(".cover");
  if (cover) document.querySelector(".head").prepend(cover);
  document.querySelector(".facts").replaceWith(page.querySelector(".facts"));
  job.duration_s = JSON.parse(page.getElementById("job").textContent).duration_s;
  draw();
}

// What people do

function seek(seconds) {
  const end = isLive() ? playable() : length();
  audio.currentTime = Math.min(Math.max(0, seconds), Math.max(0, end - 0.05));
  draw();
}

function seekTo(event) {
  const box = canvas.getBoundingClientRect();
  seek(((event.clientX - box.left) / box.width) * length());
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  seekTo(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) seekTo(event);
});
canvas.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: STEP_S, ArrowUp: STEP_S, ArrowLeft: -STEP_S, ArrowDown: -STEP_S };
  if (event.key in steps) seek(audio.currentTime + steps[event.key]);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(length());
  else if (event.key === " ") play.click();
  else return;
  event.preventDefault();
});
play.addEventListener("click", () => (audio.paused ? audio.play().catch(() => say("The browser does not play it.")) : audio.pause()));
mute.addEventListener("click", () => { audio.muted = !audio.muted; });
volume.addEventListener("input", () => { audio.volume = Number(volume.value); });
audio.addEventListener("volumechange", () => mute.setAttribute("aria-pressed", String(audio.muted)));
audio.addEventListener("loadedmetadata", () => { play.disabled = false; draw(); });
for (const change of ["play", "pause", "ended"]) {
  audio.addEventListener(change, () => {
    play.classList.toggle("playing", !audio.paused);
    play.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    follow();
  });
}
for (const change of ["timeupdate", "seeked", "durationchange"]) audio.addEventListener(change, draw);
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

// From the first segment to the end

function begin() {
  if (job.status === "Completed") {
    load(job.playlist);
    showWaveform();
    return;
  }
  if (job.is_final) return;
  const events = new EventSource(job.events);
  events.addEventListener("segment", () => { if (!source) load(job.live); });
  events.addEventListener("progress", (event) => {
    const now = JSON.parse(event.data);
    const ready = `Being made ready: ${Math.round(now.progress)} %`;
    if (now.status === "Pending") say("Waiting to be made ready…");
    else say(play.disabled ? ready : `${ready}. It can be played already.`);
  });
  events.addEventListener("completed", () => {
    events.close();
    say("");
    if (!source) load(job.playlist);
    showWaveform();
    showFacts();
  });
  for (const end of ["failed", "cancelled"]) {
    events.addEventListener(end, (event) => {
      events.close();
      const now = JSON.parse(event.data);
      say(end === "failed" ? `It could not be played: ${now.error}` : "It was cancelled.");
    });
  }
}

draw();
begin();
