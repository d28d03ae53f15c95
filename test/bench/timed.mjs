// A producer that times itself: `MODE N` on its command line, one JSON line on stdout.

/** Runs the mode asked for, first a little to be warm, then all of it. @param modes name to `(jobs) => Promise` */
export async function timed(modes) {
  const [mode, count] = [process.argv[2], Number(process.argv[3])];
  const run = modes[mode];
  await run(Math.max(1000, count / 10));
  const [wall, cpu] = [process.hrtime.bigint(), process.cpuUsage()];
  await run(count);
  const seconds = Number(process.hrtime.bigint() - wall) / 1e9;
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({ jobsPerSecond: count / seconds, cpuMicrosPerJob: (used.user + used.system) / count }));
}
