# Sidekiq's pages: `ruby web.rb <port>`.
require_relative 'app'
require 'rack'
require 'sidekiq/web'
require 'securerandom'
require 'webrick'

begin
  require 'rackup/handler/webrick'
  handler = Rackup::Handler::WEBrick
rescue LoadError
  require 'rack/handler/webrick'
  handler = Rack::Handler::WEBrick
end

require 'rack/session' unless defined?(Rack::Session)
pages = Rack::Session::Cookie.new(Sidekiq::Web, secret: SecureRandom.hex(64), same_site: true)
log = WEBrick::Log.new($stderr, WEBrick::Log::WARN)
handler.run(pages, Port: Integer(ARGV.fetch(0)), Host: '127.0.0.1', Logger: log, AccessLog: [])
