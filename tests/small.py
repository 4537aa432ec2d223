"""A random base of 2 layers, and processes that start in milliseconds: what the tests that kill, corrupt and fuzz
stand on."""
import contextlib
import functools
import io
import json
import multiprocessing
import os
import socket
import string
import sys
import time
import traceback
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("the a an of to in is are and or for with on by it as be how what why who when where does do can not from "
         "this that its which has have will data model learning machine computer network language system water energy "
         "cell light planet plant earth star code program").split()


def _tokenizer(folder, **special):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters), *WORDS]
    table = {w: i for i, w in enumerate(dict.fromkeys(vocab))}
    tok = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]",
                                                       [("[CLS]", 2), ("[SEP]", 3)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]", model_max_length=64)
    fast.save_pretrained(folder)
    return len(table)


def transformer_folder(folder, kind="bert", dropout=0.1, width=32, layers=2):
    "Random weights and a tokenizer of letters: a folder as transformers writes it."
    import torch
    from transformers import AutoModel, BertConfig, Gemma3TextConfig
    n = _tokenizer(folder)
    torch.manual_seed(1)
    if kind == "bert":
        config = BertConfig(vocab_size=n, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
                            intermediate_size=2*width, max_position_embeddings=64, hidden_dropout_prob=dropout,
                            attention_probs_dropout_prob=dropout, initializer_range=.2)
    else:
        config = Gemma3TextConfig(vocab_size=n, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
                                  num_key_value_heads=1, head_dim=16, intermediate_size=2*width,
                                  max_position_embeddings=64, sliding_window=32, use_bidirectional_attention=True,
                                  pad_token_id=0, initializer_range=.2)
    AutoModel.from_config(config).save_pretrained(folder)
    return Path(folder)


def small_base(folder, dropout=0.1, width=32, layers=2):
    "The same as a sentence-transformers folder: transformer, mean pooling, normalise."
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    folder = Path(folder)
    body = Transformer(str(transformer_folder(folder/"body", "bert", dropout, width, layers)), max_seq_length=48)
    SentenceTransformer(modules=[body, Pooling(width, "mean"), Normalize()],
                        device="cpu").save(str(folder/"base"), create_model_card=False)
    return folder/"base"


def processed(name):
    "Path of a file of data/processed."
    return str(ROOT/"data"/"processed"/name)


_context = None


def context():
    "Processes forked from a server that has imported ragcun: a start takes milliseconds, and each can be killed."
    global _context
    if _context is None:
        paths = [str(ROOT), str(Path(__file__).parent)]
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1",
                          HF_HUB_OFFLINE="1")
        _context = multiprocessing.get_context("forkserver")
        _context.set_forkserver_preload(["small", "jobs", "ragcun.training.run", "ragcun.cli.commands",
                                         "sentence_transformers", "transformers", "scipy.optimize",
                                         "matplotlib.figure", "matplotlib.backends.backend_agg", "warm"])  # 2 s a start
    return _context


class Job:
    "A process that runs one function; its output is kept in a file."
    def __init__(self, function, *args, log=None, env=None):
        self.log = Path(log) if log else None
        self.process = context().Process(target=_run, args=(function, args, str(log) if log else None, env or {}))
        self.process.start()

    def wait(self, timeout=120):
        "Exit code; negative for a signal."
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {timeout} s:\n{self.text()}")
        return self.process.exitcode

    def text(self):
        return self.log.read_text(errors="replace") if self.log and self.log.exists() else ""


def _run(function, args, log, env):
    os.environ.update(env)
    if log:
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
    sys.stdout = os.fdopen(1, "w", 1, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    import torch
    torch.set_num_threads(1)
    try:
        code = function(*args) or 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def command(*argv, log, env=None, timeout=120):
    "Run the `ragcun` command in a process of its own: (exit code, output)."
    job = Job(_command, [str(a) for a in argv], log=log, env=env)
    return job.wait(timeout), job.text()


def _command(argv):
    from ragcun.cli.commands import main
    return main(argv)


def same(a, b, where=""):
    "Bit for bit: the first place where two states differ, or ''."
    import torch
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        equal = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().flatten().view(torch.uint8),
                                                                          b.contiguous().flatten().view(torch.uint8))
        return "" if equal else where
    if type(a) is not type(b): return f"{where}: {type(a).__name__} and {type(b).__name__}"
    if isinstance(a, dict):
        if set(a) != set(b): return f"{where}: keys {sorted(map(str, set(a) ^ set(b)))}"
        return next((d for k in a if (d := same(a[k], b[k], f"{where}/{k}"))), "")
    if isinstance(a, (list, tuple)):
        if len(a) != len(b): return f"{where}: lengths {len(a)}, {len(b)}"
        return next((d for i, (x, y) in enumerate(zip(a, b, strict=True)) if (d := same(x, y, f"{where}/{i}"))), "")
    return "" if a == b or (a != a and b != b) else f"{where}: {a!r} and {b!r}"


def json_lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


RECORD = os.environ.get("RAGCUN_RECORD")  # where the slow sweep writes its figures


def record(part, name, figures):
    "Keep figures of a sweep where RAGCUN_RECORD says."
    from ragcun.core import read_json, write_json
    if not RECORD: return
    path = ROOT/RECORD
    found = (read_json(path) if path.exists()
             else {"command": f"RAGCUN_FUZZ=10 RAGCUN_RECORD={RECORD} pytest -m 'slow or not slow' "
                   "tests/system/test_trust.py tests/system/test_fuzz.py tests/models/test_safety.py"})
    found.setdefault(part, {})[name] = figures
    write_json(path, found)


def pdf_bytes(*pages):
    "A PDF file with a line of text on each page, as small programs write it, or with texts at places: (x, y, text)."
    number = len(pages)
    kids = " ".join(f"{3 + 2*i} 0 R" for i in range(number))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {number}>>"]
    for i, page in enumerate(pages):
        drawn = ""
        for x, y, text in [(72, 720, page)] if isinstance(page, str) else page:
            text = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            drawn += f"BT /F1 12 Tf {x} {y} Td ({text}) Tj ET "
        drawn = drawn.strip()
        objects += [f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {4 + 2*i} 0 R"
                    f"/Resources<</Font<</F1 {3 + 2*number} 0 R>>>>>>",
                    f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream"]
    objects.append("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    out, places = "%PDF-1.4\n", []
    for i, o in enumerate(objects, 1):
        places.append(len(out))
        out += f"{i} 0 obj{o} endobj\n"
    table = "".join(f"{p:010d} 00000 n \n" for p in places)
    size = len(objects) + 1
    return (f"{out}xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\n"
            f"startxref\n{len(out)}\n%%EOF").encode("latin-1")


def archive(parts):
    "A zip file of names and texts."
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for name, text in parts.items():
            packed.writestr(name, text)
    return made.getvalue()


def docx_bytes(heading, text):
    "A Word file of a heading and a paragraph; made by python-docx once, then filled in."
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_word_file())) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                data = data.replace(b"HEADING", heading.encode()).replace(b"PARAGRAPH", text.encode())
            new.writestr(name, data)
    return made.getvalue()


@functools.cache
def _word_file():
    import docx
    document = docx.Document()
    document.add_heading("HEADING", 1)
    document.add_paragraph("PARAGRAPH")
    held = io.BytesIO()
    document.save(held)
    return held.getvalue()


def free_port():
    with contextlib.closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(function, world, *args, place, last=()):
    "Run a function in `world` processes: their exit codes and outputs."
    port = free_port()
    found = [Job(function, *args, r, world, port, *last, log=place/f"{function.__name__}_{time.monotonic_ns()}_{r}.log")
             for r in range(world)]
    return [j.wait() for j in found], [j.text() for j in found]
