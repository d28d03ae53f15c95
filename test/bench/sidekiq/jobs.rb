# The Sidekiq side: the jobs every system of this bench runs, set up by environment variables; and a producer.
#
# jobs.rb template CLASS ARGS-JSON   one job in the queue, for the filler to clone
# jobs.rb one N                      perform_async, one by one; prints jobs a second and CPU microseconds a job as JSON
# jobs.rb bulk N                     Sidekiq::Client.push_bulk of 1,000
require 'json'
require 'sidekiq'

url = ENV.fetch('BENCH_REDIS')
# Debian's redis gem has a warning for each push of this Sidekiq.
Redis.silence_deprecations = true if Redis.respond_to?(:silence_deprecations=)
Sidekiq.configure_client { |config| config.redis = { url: url } }
Sidekiq.configure_server do |config|
  config.redis = { url: url }
  next unless ENV['BENCH_LOGGING'] == '0'

  quiet = Class.new do
    def initialize(*) = nil
    def call(*) = yield
    def prepare(*) = yield
  end
  config.options[:job_logger] = quiet
  config.logger.level = Logger::FATAL
end

MARKS = Redis.new(url: url)

class BenchAdd
  include Sidekiq::Worker
  sidekiq_options queue: 'bench'
  def perform(x, y) = x + y
end

class BenchWait
  include Sidekiq::Worker
  sidekiq_options queue: 'bench'
  def perform(seconds) = sleep(seconds)
end

class BenchMark
  include Sidekiq::Worker
  sidekiq_options queue: 'bench'
  # CLOCK_MONOTONIC is one clock for every process of a machine; Node's hrtime reads the same one.
  def perform(_) = MARKS.lpush('bench.marks', Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond))
end

if $PROGRAM_NAME == __FILE__
  mode, first, second = ARGV
  if mode == 'template'
    Sidekiq::Client.push('class' => first, 'args' => JSON.parse(second), 'queue' => 'bench', 'retry' => true)
    exit
  end
  modes = {
    'one' => ->(count) { count.times { |i| BenchAdd.perform_async(i, i + 1) } },
    'bulk' => lambda do |count|
      (0...count).each_slice(1000) { |some| Sidekiq::Client.push_bulk('class' => BenchAdd, 'args' => some.map { |i| [i, i + 1] }) }
    end
  }
  count = Integer(first)
  modes[mode].call([1000, count / 10].max) # connections open, code paths warm
  wall = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  modes[mode].call(count)
  wall = Process.clock_gettime(Process::CLOCK_MONOTONIC) - wall
  cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - cpu
  puts JSON.generate('jobsPerSecond' => count / wall, 'cpuMicrosPerJob' => cpu / count * 1e6)
end
