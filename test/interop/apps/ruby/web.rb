# Sidekiq's pages: `ruby web.rb <port>`.
require_relative 'app'
require 'rack'
require 'sidekiq/web'
require 'securerandom'
require 'webrick'

begin
  require 'rack/handler/webrick'
  handler = Rack::Handler::WEBrick
rescue LoadError
  require 'rackup'
  handler = Rackup::Handler::WEBrick
end

Sidekiq::Web.use(Rack::Session::Cookie, secret: SecureRandom.hex(32), same_site: true)
log = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
handler.run(Sidekiq::Web, Port: Integer(ARGV.fetch(0)), Host: '127.0.0.1', Logger: log, AccessLog: [])
