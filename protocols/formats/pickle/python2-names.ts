/**
 * The names that pickles of protocols 0 to 2 use for what Python 3 has moved: they are Python 2's, also where Python 3 wrote the
 * pickle. Names only; what they mean is Lib/_compat_pickle.py's matter.
 */

/** What Python 3 calls it. */
export function python3Name(module: string, name: string): readonly [module: string, name: string] {
  const moved = RENAMED.get(`${module} ${name}`);
  if (moved !== undefined) return moved;
  if (module === 'exceptions' && EXCEPTIONS.has(name)) return ['builtins', name];
  return [MODULES.get(module) ?? module, name];
}

/** What a pickle of protocol 2 calls it. */
export function python2Name(module: string, name: string): readonly [module: string, name: string] {
  const moved = OLD_NAMES.get(`${module} ${name}`);
  if (moved !== undefined) return moved;
  if (module === 'builtins' && EXCEPTIONS.has(name)) return ['exceptions', name];
  return [OLD_MODULES.get(module) ?? module, name];
}

const MODULES: ReadonlyMap<string, string> = new Map([
  ['__builtin__', 'builtins'],
  ['copy_reg', 'copyreg'],
  ['Queue', 'queue'],
  ['SocketServer', 'socketserver'],
  ['ConfigParser', 'configparser'],
  ['repr', 'reprlib'],
  ['tkFileDialog', 'tkinter.filedialog'],
  ['tkSimpleDialog', 'tkinter.simpledialog'],
  ['tkColorChooser', 'tkinter.colorchooser'],
  ['tkCommonDialog', 'tkinter.commondialog'],
  ['Dialog', 'tkinter.dialog'],
  ['Tkdnd', 'tkinter.dnd'],
  ['tkFont', 'tkinter.font'],
  ['tkMessageBox', 'tkinter.messagebox'],
  ['ScrolledText', 'tkinter.scrolledtext'],
  ['Tkconstants', 'tkinter.constants'],
  ['Tix', 'tkinter.tix'],
  ['ttk', 'tkinter.ttk'],
  ['Tkinter', 'tkinter'],
  ['markupbase', '_markupbase'],
  ['_winreg', 'winreg'],
  ['thread', '_thread'],
  ['dummy_thread', '_dummy_thread'],
  ['dbhash', 'dbm.bsd'],
  ['dumbdbm', 'dbm.dumb'],
  ['dbm', 'dbm.ndbm'],
  ['gdbm', 'dbm.gnu'],
  ['xmlrpclib', 'xmlrpc.client'],
  ['SimpleXMLRPCServer', 'xmlrpc.server'],
  ['httplib', 'http.client'],
  ['htmlentitydefs', 'html.entities'],
  ['HTMLParser', 'html.parser'],
  ['Cookie', 'http.cookies'],
  ['cookielib', 'http.cookiejar'],
  ['BaseHTTPServer', 'http.server'],
  ['test.test_support', 'test.support'],
  ['commands', 'subprocess'],
  ['urlparse', 'urllib.parse'],
  ['robotparser', 'urllib.robotparser'],
  ['urllib2', 'urllib.request'],
  ['anydbm', 'dbm'],
  ['_abcoll', 'collections.abc'],
  ['cPickle', 'pickle'],
  ['_elementtree', 'xml.etree.ElementTree'],
  ['FileDialog', 'tkinter.filedialog'],
  ['SimpleDialog', 'tkinter.simpledialog'],
  ['DocXMLRPCServer', 'xmlrpc.server'],
  ['SimpleHTTPServer', 'http.server'],
  ['CGIHTTPServer', 'http.server'],
  ['UserDict', 'collections'],
  ['UserList', 'collections'],
  ['UserString', 'collections'],
  ['whichdb', 'dbm'],
  ['StringIO', 'io'],
  ['cStringIO', 'io'],
]);

/** The same name in another module, or another name: old, then new. */
const MOVES: readonly (readonly [string, string])[] = [
  ['__builtin__ xrange', 'builtins range'],
  ['__builtin__ reduce', 'functools reduce'],
  ['__builtin__ intern', 'sys intern'],
  ['__builtin__ unichr', 'builtins chr'],
  ['__builtin__ unicode', 'builtins str'],
  ['__builtin__ long', 'builtins int'],
  ['itertools izip', 'builtins zip'],
  ['itertools imap', 'builtins map'],
  ['itertools ifilter', 'builtins filter'],
  ['itertools ifilterfalse', 'itertools filterfalse'],
  ['itertools izip_longest', 'itertools zip_longest'],
  ['UserDict IterableUserDict', 'collections UserDict'],
  ['UserList UserList', 'collections UserList'],
  ['UserString UserString', 'collections UserString'],
  ['whichdb whichdb', 'dbm whichdb'],
  ['_socket fromfd', 'socket fromfd'],
  ['_multiprocessing Connection', 'multiprocessing.connection Connection'],
  ['multiprocessing.process Process', 'multiprocessing.context Process'],
  ['multiprocessing.forking Popen', 'multiprocessing.popen_fork Popen'],
  ['urllib ContentTooShortError', 'urllib.error ContentTooShortError'],
  ['urllib getproxies', 'urllib.request getproxies'],
  ['urllib pathname2url', 'urllib.request pathname2url'],
  ['urllib quote_plus', 'urllib.parse quote_plus'],
  ['urllib quote', 'urllib.parse quote'],
  ['urllib unquote_plus', 'urllib.parse unquote_plus'],
  ['urllib unquote', 'urllib.parse unquote'],
  ['urllib url2pathname', 'urllib.request url2pathname'],
  ['urllib urlcleanup', 'urllib.request urlcleanup'],
  ['urllib urlencode', 'urllib.parse urlencode'],
  ['urllib urlopen', 'urllib.request urlopen'],
  ['urllib urlretrieve', 'urllib.request urlretrieve'],
  ['urllib2 HTTPError', 'urllib.error HTTPError'],
  ['urllib2 URLError', 'urllib.error URLError'],
  ['multiprocessing AuthenticationError', 'multiprocessing.context AuthenticationError'],
  ['multiprocessing BufferTooShort', 'multiprocessing.context BufferTooShort'],
  ['multiprocessing ProcessError', 'multiprocessing.context ProcessError'],
  ['multiprocessing TimeoutError', 'multiprocessing.context TimeoutError'],
  ['__builtin__ basestring', 'builtins str'],
  ['UserDict UserDict', 'collections UserDict'],
  ['socket _socketobject', 'socket SocketType'],
  ['exceptions StandardError', 'builtins Exception'],
];

const EXCEPTIONS: ReadonlySet<string> = new Set(
  (
    'ArithmeticError AssertionError AttributeError BaseException BufferError BytesWarning ' +
    'DeprecationWarning EOFError EnvironmentError Exception FloatingPointError FutureWarning ' +
    'GeneratorExit IOError ImportError ImportWarning IndentationError IndexError KeyError ' +
    'KeyboardInterrupt LookupError MemoryError NameError NotImplementedError OSError OverflowError ' +
    'PendingDeprecationWarning ReferenceError RuntimeError RuntimeWarning StopIteration SyntaxError ' +
    'SyntaxWarning SystemError SystemExit TabError TypeError UnboundLocalError UnicodeDecodeError ' +
    'UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning UserWarning ValueError Warning ' +
    'ZeroDivisionError'
  ).split(' '),
);

/** Old names that Python 3 reads, and never writes. */
const READ_ONLY: ReadonlySet<string> = new Set([
  'cPickle',
  '_elementtree',
  'FileDialog',
  'SimpleDialog',
  'DocXMLRPCServer',
  'SimpleHTTPServer',
  'CGIHTTPServer',
  'UserDict',
  'UserList',
  'UserString',
  'whichdb',
  'StringIO',
  'cStringIO',
  '__builtin__ basestring',
  'exceptions StandardError',
  'UserDict UserDict',
  'socket _socketobject',
]);

const RENAMED: ReadonlyMap<string, readonly [string, string]> = new Map(
  MOVES.map(([from, to]) => [from, to.split(' ') as [string, string]]),
);
const OLD_NAMES: ReadonlyMap<string, readonly [string, string]> = new Map(
  MOVES.filter(([from]) => !READ_ONLY.has(from)).map(([from, to]) => [to, from.split(' ') as [string, string]]),
);
const OLD_MODULES: ReadonlyMap<string, string> = new Map(
  [...MODULES].filter(([from]) => !READ_ONLY.has(from)).map(([from, to]) => [to, from]),
);
