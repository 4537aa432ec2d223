"""Attachments of mail, documents in XML, wikis, feeds, manual pages, and files whose names say little."""
import gzip
import json
import sys
import time
from email.message import EmailMessage

import pytest
import yaml
from small import docx_bytes, pdf_bytes

from ragcun import UserError
from ragcun.cli.flags import read_corpus
from ragcun.data.documents import read_file, read_folder
from ragcun.data.markup import parse_markdown
from ragcun.data.other_markup import parse_asciidoc, parse_latex, parse_man, parse_org, parse_wiki
from ragcun.data.structured import parse_contacts
from ragcun.data.office import parse_feed, parse_rtf, parse_wiki_dump, parse_xml, xml_kind


def told(sections):
    return [(s.heading, s.text) for s in sections]


# mail


def letter(subject, *attached):
    made = EmailMessage()
    made["Subject"], made["From"] = subject, "ann@example.org"
    made.set_content("See below.")
    for name, raw, kind in attached:
        made.add_attachment(raw, *kind.split("/"), filename=name)
    return made.as_bytes()


CONTRACT = ("Öffer.docx", docx_bytes("Contract", "The pump costs 4711 euros."), "application/octet-stream")
REPORT = ("report", pdf_bytes("Oil it."), "application/pdf")     # its kind is told by its beginning


def test_attachments_are_read_under_their_names(tmp_path, caplog):
    inner = letter("Inner", REPORT)
    odd = (("x.docx", b"PK\x03\x04", "application/octet-stream"), ("logo.png", b"\x89PNG", "image/png"),
           ("t.csv", "a;b\nü;2".encode("latin-1"), "application/octet-stream"))
    (tmp_path/"a.eml").write_bytes(letter("Offer", CONTRACT, REPORT, *odd, ("old.eml", inner, "application/octet-stream")))
    found = read_folder(tmp_path)
    assert [(d.headings, d.text, d.page) for d in found.documents[1:]] == [
        (("Offer", "Öffer.docx", "Contract"), "The pump costs 4711 euros.", 0), (("Offer", "report"), "Oil it.", 1),
        (("Offer", "t.csv"), "a | b\nü | 2", 0),
        (("Offer", "old.eml", "Inner"), "From: ann@example.org\n\nSee below.\n\nattached: report", 0),
        (("Offer", "old.eml", "Inner", "report"), "Oil it.", 1)]
    assert found.documents[0].text.endswith("attached: x.docx\nattached: logo.png\nattached: t.csv\nattached: old.eml")
    assert "skipped x.docx, attached to" in caplog.text and not found.skipped and {d.title for d in found.documents} == {"Offer"}


def test_a_file_that_hangs_on_several_letters_of_a_mailbox_is_read_once(tmp_path):
    letters = (letter("One", REPORT), letter("Two", REPORT, CONTRACT))
    (tmp_path/"a.mbox").write_bytes(b"".join(b"From a Mon Jan  1 10:00:00 2024\n" + raw + b"\n" for raw in letters))
    found = [(d.headings, d.text) for d in read_folder(tmp_path).documents if "See below" not in d.text]
    assert found == [(("One", "report"), "Oil it."), (("Two", "Öffer.docx", "Contract"), "The pump costs 4711 euros.")]


def test_without_its_parser_a_book_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lxml.etree", None)
    (tmp_path/"a.fb2").write_text("<FictionBook><body><p>x</p></body></FictionBook>")
    (tmp_path/"b.txt").write_text("Oil it.")
    found = read_folder(tmp_path)
    assert [d.text for d in found.documents] == ["Oil it."] and "pip install" in found.skipped[0][1]


# documents in XML

BOOK = """<!DOCTYPE book PUBLIC "-//OASIS//DTD DocBook XML V4.5//EN" "x.dtd" [<!ENTITY p "Pump P7">]>
<book><bookinfo><title>&p; Manual</title><author><firstname>Ann</firstname><surname>Lee</surname></author>
<keywordset><keyword>gone</keyword></keywordset></bookinfo>
<chapter><title>Use</title><para>Press <keycombo><keycap>Ctrl</keycap><keycap>C</keycap></keycombo>, see <xref
linkend="s"/>&mdash;&other;.<indexterm><primary>gone</primary></indexterm></para><warning><para>Hot!</para></warning>
<sect1 id="s"><title>Safety</title><orderedlist><listitem><para>Fill.</para></listitem><listitem><para>Start.</para>
</listitem></orderedlist><variablelist><varlistentry><term>-q</term><listitem><para>Quiet.</para></listitem></varlistentry>
</variablelist><table><title>Parts</title><tgroup cols="3"><colspec colname="a"/><colspec colname="b"/><colspec colname="c"/>
<thead><row><entry namest="a" nameend="b">Part</entry><entry>Bar</entry></row></thead><tbody><row><entry
morerows="1">Seal</entry><entry>x</entry><entry>8</entry></row><row><entry>y</entry><entry>9</entry></row></tbody></tgroup>
</table><screen>a
  b</screen></sect1></chapter></book>"""
TASK = """<task id="t"><title>Fill it</title><shortdesc>How.</shortdesc><prolog>gone</prolog><taskbody><steps><step>
<cmd>Open <menucascade><uicontrol>File</uicontrol><uicontrol>New</uicontrol></menucascade>.</cmd></step><step>
<cmd>Close <cite>it</cite>.</cmd></step></steps></taskbody></task>"""
PAPER = """<article><front><journal-meta>gone</journal-meta><article-meta><title-group><article-title>On <i>Pumps</i>
</article-title></title-group><abstract><title>Abstract</title><p>We pump.</p></abstract></article-meta></front><body><sec>
<title>Methods</title><p>Oil.</p></sec></body><back><ref-list><title>References</title><ref><label>1</label><mixed-citation>
Doe 2001.</mixed-citation></ref></ref-list></back></article>"""
NOVEL = """<FictionBook><description><title-info><genre>gone</genre><book-title>The Pump</book-title></title-info></description>
<body><section><title><p>One</p></title><p>Dark.</p><poem><stanza><v>a</v><v>b</v></stanza></poem></section></body>
<binary>QUJD</binary></FictionBook>"""
LETTERS = """<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc><titleStmt><title>Letters</title></titleStmt>
</fileDesc></teiHeader><text><body><div><head>First</head><p>Dear<note>a note</note> Bob.</p></div></body></text></TEI>"""
PAGE = """<refentry><refentryinfo><title>gone</title></refentryinfo><refmeta><refentrytitle>pump</refentrytitle>
<manvolnum>1</manvolnum></refmeta><refnamediv><refname>pump</refname><refname>pumps</refname><refpurpose>moves</refpurpose>
</refnamediv><refsynopsisdiv><cmdsynopsis><command>pump</command><arg>-q</arg><arg choice="plain">file</arg></cmdsynopsis>
</refsynopsisdiv></refentry>"""


@pytest.mark.parametrize("text, wanted", [
    (BOOK, [("Pump P7 Manual", "Ann Lee"), ("Use", "Press Ctrl+C, see Safety—other.\n\nWarning\n\nHot!"),
            ("Safety", "1. Fill.\n2. Start.\n-q\nQuiet.\n\nParts\n\nPart |  | Bar\nSeal | x | 8\n | y | 9\n\na\n  b")]),
    (TASK, [("Fill it", "How.\n\n1. Open File > New.\n2. Close it.")]),
    (PAPER, [("On Pumps", ""), ("Abstract", "We pump."), ("Methods", "Oil."), ("References", "1 Doe 2001.")]),
    (NOVEL, [("The Pump", ""), ("One", "Dark.\n\na\nb")]),
    (LETTERS, [("Letters", ""), ("First", "Dear (a note) Bob.")]),
    (PAGE, [("pump(1)", "pump, pumps — moves\n\npump [-q] file")]),
])
def test_documents_in_xml(text, wanted):
    assert xml_kind(text.encode()) == ".docbook" and told(parse_xml(text.encode())) == wanted


def test_settings_in_xml_are_no_documents():
    for text in ("<project><name>x</name></project>", "<part number='4'/>", "<beans/>", "", "<!-- only -->", "<svg><title>x</title></svg>"):
        assert xml_kind(text.encode()) == ""


def test_feeds_and_exports_of_blogs():
    rss = b"""<rss xmlns:content="c" xmlns:wp="w"><channel><title>Blog</title><item><title>Hello &amp; more</title>
    <content:encoded><![CDATA[One.\n\nTwo <b>bold</b>.\n<h2>Part</h2>\nThree.]]></content:encoded><wp:comment>
    <wp:comment_author>Bob</wp:comment_author><wp:comment_content>Nice.</wp:comment_content></wp:comment></item><item>
    <title>picture</title><wp:post_type>attachment</wp:post_type></item></channel></rss>"""
    assert told(parse_feed(rss)) == [("Blog", ""), ("Hello & more", "One.\n\nTwo bold."), ("Part", "Three.\n\nBob: Nice.")]
    atom = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>F</title><entry><title type="html">a &lt;b&gt;x&lt;/b&gt;</title>
    <content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>One.</p><p>Two.</p></div></content></entry></feed>"""
    assert told(parse_feed(atom)) == [("F", ""), ("a x", "One.\n\nTwo.")]


# wikis


@pytest.mark.parametrize("text, wanted", [
    ("'''P7''' is ''a'' [[pump (machine)|]] of [[Hall B]].", "P7 is a pump of Hall B."),
    ("A.<ref>Smith 2004.</ref><ref name=a /> B.<ref>{{cite web|title=gone}}</ref>", "A. (Smith 2004.) B."),
    ("{{Short description|gone}}At {{convert|5|to|8|bar|psi}}, {{lang|fr|mot}}.", "At 5 to 8 bar, mot."),
    ("{{Infobox pump\n| name = P7\n| image = gone.png\n| bar = {{cvt|8|bar}}\n}}", "name | P7\nbar | 8 bar"),
    ("{{Warning|1=Never open it hot.}}{{stub}}", "Never open it hot."),
    ("[[File:a.png|thumb|200px|alt=no|The plan]]\n\nText.[[Category:Pumps]]", "The plan\n\nText."),
    ("# a\n#* b\n# c\n; T : d\n: e", "1. a\nb\n2. c\nT\nd\ne"),
    ("[https://example.org the site] and <nowiki>[[raw]]</nowiki>", "the site and [[raw]]"),
    ("<syntaxhighlight lang=py>\nif a < b:\n    x\n</syntaxhighlight>\n code\n  more", "if a < b:\n    x\n\ncode\n more"),
    ('{| class="x"\n|+ Parts\n! a !! b\n|-\n| rowspan="2" | 1 || 2\n|-\n| 3\n|}', "Parts\n\na | b\n1 | 2\n | 3"),
    ("Use List<Item> and {{unclosed", "Use List<Item> and {{unclosed"),
    ("See [https://example.org the [new]\nsite], <global-map>.\n\n <psbt> := <x-y>\n", "See the [new] site, <global-map>.\n\n<psbt> := <x-y>"),
])
def test_wikitext(text, wanted):
    assert told(parse_wiki(text)) == [("", wanted)]


def test_a_dump_of_a_wiki_is_its_pages_in_their_last_version():
    def page(title, *texts, inner="<ns>0</ns>"):
        return (f"<page><title>{title}</title>{inner}"
                + "".join(f"<revision><model>wikitext</model><text>{t}</text></revision>" for t in texts) + "</page>")
    dump = f"""<mediawiki>{page("Pump", "Old.", "New.&#10;== Use ==&#10;Oil.")}{page("Talk:Pump", "x", inner="<ns>1</ns>")}
    {page("R", "#REDIRECT [[Pump]]", inner="<redirect/>")}{page("Empty")}{page("Valve", "Shut.")}</mediawiki>"""
    assert told(parse_wiki_dump(dump.encode())) == [("Pump", "New."), ("Use", "Oil."), ("Valve", "Shut.")]


# manual pages

MAN = r""".\" a comment
.de Sp
not shown
..
.TH PUMP 1 "2024-01-05"
.SH NAME
pump \- moves \(lqwater\(rq
.SH OPTIONS
.TP
.BR \-p ", " \-\-pressure =\fIBAR\fR
At most 8\ bar.
.ie n \{\
\h'-04'\(bu\h'+03'\c
.\}
.el \{\
.sp -1
.IP \(bu 2.3
.\}
An item.
.nf
if a < b
  .x
.fi
.TS
tab(;);
l l.
a;b
.TE"""
MDOC = r""".Dd January 5, 2024
.Dt PUMP 1
.Os
.Sh NAME
.Nm pump
.Nd moves water
.Sh SYNOPSIS
.Nm
.Op Fl p Ar bar
.Oo Ar user Ns @ Oc Ns Ar host
.Bl -tag -width x
.It Fl q
Quiet, see
.Xr tap 8 and
.Dq water .
.El"""


@pytest.mark.parametrize("text, wanted", [
    (MAN, [("PUMP(1)", ""), ("NAME", "pump - moves “water”"),
           ("OPTIONS", "-p, --pressure=BAR\n\nAt most 8 bar. • An item.\n\nif a < b\n  .x\n\na | b")]),
    (MDOC, [("PUMP(1)", ""), ("NAME", "pump – moves water"),
            ("SYNOPSIS", "pump [-p bar] [user@]host\n\n-q\n\nQuiet, see tap(8) and “water”.")]),
])
def test_manual_pages(text, wanted):
    assert told(parse_man(text)) == wanted


# files whose names say little


def test_files_whose_names_say_little_are_told_by_their_content(tmp_path):
    docx = docx_bytes("Contract", "Oil it.")
    export = (b"Date: Mon, 1 Jan 2024\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n boundary=b\r\n\r\n--b\r\n"
              b"Content-Type: text/html\r\n\r\n<h1>Guide</h1><p>Oil it.</p>\r\n--b--\r\n")     # as a wiki exports a page
    files = {"a.doc": docx, "b.doc": rb"{\rtf1\ansi Oil it.}", "c.doc": export, "d.doc": b"Oil it.",
             "e.xls": b"<table><tr><td>Oil</td><td>it.</td></tr></table>", "f.xls": b"Oil\tit.\n", "g.txt": rb"{\rtf1 Oil it.}",
             "h.xml": b"<?xml version='1.0'?><book><title>B</title><para>Oil it.</para></book>",
             "i.1.gz": gzip.compress(b".TH I 1\nOil it.\n"),
             "j.xml": b"<mediawiki><page><title>P</title><revision><text>Oil it.</text></revision></page></mediawiki>",
             "k.fodt": b"<d><body><text><p>Oil it.</p></text></body></d>"}
    others = {"o.doc": b"\xd0\xcf\x11\xe0" + b"\0"*600, "pom.xml": b"<project/>", "log.1": b"started\n", "p.doc": b"PK\x03\x04"}
    for name, raw in {**files, **others}.items():
        (tmp_path/name).write_bytes(raw)
    found = read_folder(tmp_path)
    assert {d.source: d.text.replace(" | ", " ") for d in found.documents} == dict.fromkeys(files, "Oil it.")
    assert found.unread == {".doc": 2, ".xml": 1, ".1": 1} and not found.skipped
    assert read_file(tmp_path/"c.doc")[0].title == "Guide"
    assert [row["text"] for row in read_corpus(str(tmp_path/"h.xml"))] == ["Oil it."]
    with pytest.raises(UserError, match=".xml files are not read"):
        read_corpus(str(tmp_path/"pom.xml"))


# descriptions of APIs

API = """openapi: 3.0.0
info: {title: Pumps, description: "Controls *pumps*."}
paths:
  /pumps/{id}:
    parameters: [{$ref: "#/components/parameters/Id"}]
    put:
      summary: Change a pump.
      requestBody: {description: The pump., content: {application/json: {schema: {$ref: "#/components/schemas/Pump"}}}}
      responses: {"200": {description: It is done.}, default: {$ref: "#/components/responses/Fault"}}
components:
  parameters: {Id: {name: id, in: path, description: Which pump.}}
  responses: {Fault: {description: It is not.}}
  schemas:
    Pump:
      properties:
        oil: {type: string, enum: [thin, thick], description: What it needs.}
        next: {$ref: "#/components/schemas/Pump"}
        seal: {type: object, properties: {bar: {type: number}}}
"""


def test_an_api_is_read_by_its_operations(tmp_path):
    (tmp_path/"a.yaml").write_text(API)
    (tmp_path/"b.json").write_text(json.dumps(yaml.safe_load(API)))
    (tmp_path/"ci.yml").write_text("name: ci\non: push\n")
    found = read_folder(tmp_path)
    fields = "oil (string): What it needs. One of thin, thick.\nnext (Pump)\nseal (object)\nbar (number)"
    for name in ("a.yaml", "b.json"):
        assert [(d.context, d.text) for d in found.documents if d.source == name] == [
            ("Pumps", "Controls pumps."),
            ("Pumps › PUT /pumps/{id}", "Change a pump.\n\nid (path): Which pump.\n\nThe pump.\n\n"
             f"{fields}\n\n200: It is done.\ndefault: It is not."), ("Pumps › Pump", fields)]
    assert found.unread == {".yml": 1} and not found.skipped
    odd = {"openapi": "3", "paths": {"/a": None, "/b": {"get": {"parameters": "x", "responses": [1], "requestBody": 3}}},
           "components": {"schemas": {"A": {"properties": {"x": 3, "y": {"type": ["string", "null"]}}, "allOf": 4}}}}
    (tmp_path/"c.json").write_text(json.dumps(odd))
    assert [d.headings for d in read_file(tmp_path/"c.json")] == [("API", "GET /b"), ("API", "A")]


@pytest.mark.parametrize("read, mark", [(parse_wiki, "<ref>"), (parse_wiki, "<!--"), (parse_man, ".TH A 1\nT{\n"),
                                        (parse_latex, "\\begin{lstlisting}[caption={"), (parse_latex, "\\begin{theorem}[")])
def test_marks_that_are_never_closed_take_time_with_their_number(read, mark):
    def seconds(n):
        start = time.process_time()
        read(mark*n)
        return time.process_time() - start
    assert min(seconds(2000) for _ in range(3)) < 9*min(seconds(500) for _ in range(3)) + .05


def test_contacts():
    text = ("BEGIN:VCARD\r\nVERSION:3.0\r\nN:Lee;Ann;;;\r\nFN:Ann Lee\r\nORG:ACME;Pumps\r\nitem1.TEL;TYPE=CELL,voice:+49 1\r\n"
            "ADR;TYPE=home:;;Way 4;Köln;;50667;\r\nBDAY:19700105\r\nNOTE:Knows the\r\n  seals\\, too.\r\nPHOTO;ENCODING=b:QUJD\r\n"
            "END:VCARD\r\nBEGIN:VCARD\r\nVERSION:2.1\r\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=BC=\r\nrgen\r\nEND:VCARD\r\n")
    assert told(parse_contacts(text.replace("\r\n", "\n"))) == [
        ("Ann Lee", "Organisation: ACME, Pumps\nPhone (cell): +49 1\nAddress (home): Way 4, Köln, 50667\nBirthday: 1970-01-05\n"
         "Note: Knows the seals, too."), ("Jürgen", "")]


# what programs write


@pytest.mark.parametrize("text, wanted", [
    (r"\hypertarget{a}{%" "\n" r"\section{Oil}\label{a}}" "\n" r"See \protect\hyperlink{b}{the valve} and \hyperref[c]{the seal}.",
     "See the valve and the seal."),
    (r"\section{Oil}" "\n" r"Use \texttt{-\/-all}, \texttt{{-}{-}list} for hy\-phen\-ation, \small\textbf{slowly}.",
     "Use --all, --list for hyphenation, slowly."),
    (r"\section{Oil}" "\n" r"10\textsuperscript{6} Pa by H\textsuperscript{+}.", "10^6 Pa by H+."),
    (r"\section{Oil}\addcontentsline{toc}{section}{Oil}" "\n" r"\begin{longtable}[]{@{}ll@{}}\caption{Bars}\tabularnewline" "\n"
     r"\toprule Part & Bar \\ \midrule \endfirsthead" "\n" r"\toprule Part & Bar \\ \midrule \endhead" "\n"
     r"seal & 8 \\ \end{longtable}", "Bars\nPart | Bar\nseal | 8")])
def test_latex_as_programs_write_it(text, wanted):
    [(heading, said)] = told(parse_latex(text))
    assert (heading, [" ".join(line.split()) for line in said.split("\n") if line.strip()]) == ("Oil", wanted.split("\n"))


def test_letters_of_manual_pages():
    text = "." + r'TH A 1' + "\n.SH N\n" + r"S\[/o]ren \(/L\['o]d\[u017A], \[*a]\(*b, \[S2], \(vSkoda, \(Fi"
    assert told(parse_man(text))[-1][1] == "Søren Łódź, αβ, ², Škoda, ffi"


def test_marks_at_the_ends_of_lines():
    assert told(parse_asciidoc("One +\ntwo + three")) == [("", "One\ntwo + three")]
    assert told(parse_org("One\\\\\ntwo H_{2}O 10^{6} hy\\-phen\n-----\nx_{i}")) == [("", "One\ntwo H2O 10^6 hyphen\n\nxi")]
    assert told(parse_wiki("<pre>a &quot;b&quot;</pre><nowiki>c &amp; d</nowiki>")) == [("", 'a "b"\n\nc & d')]


SIMPLE = """
  Part        Bar   Note
  ------ -------- ------
  seal        0.5  a | b
  温度          8

  : Limits
"""
TALL = """
----------------------------
 Part   Used in       Bar
------ ----------- ---------
 seal   a pump of        0.5
        the hall

 ring   a valve            8
----------------------------
"""


@pytest.mark.parametrize("text, wanted", [
    (SIMPLE, "Part | Bar | Note\nseal | 0.5 | a | b\n温度 | 8 |\n\nLimits"),
    (TALL, "Part | Used in | Bar\nseal | a pump of the hall | 0.5\nring | a valve | 8"),
    ("----- ---\nseal    8\nring    9\n----- ---\n", "seal | 8\nring | 9"),
    ("```\na b\n-- --\n1 2\n```", "a b\n-- --\n1 2"),
    ("Oil the pump.\n\na list of all\n-- -- --\nthat is none\n", "Oil the pump.\n\na list of all that is none")])
def test_tables_of_pandoc_are_tables(text, wanted):
    [(_, said)] = told(parse_markdown(text))
    assert "\n".join(line.rstrip() for line in said.split("\n")) == wanted


def test_headings_and_cells_of_rtf():
    rtf = (rb"{\rtf1\ansi{\stylesheet{\s0\fs24 Normal;}{\s1\fs32\b heading 1;}{\s12\fs28{\*\x y} Heading 2;}{\s15\fs40 Title;}}"
           rb"\pard\s15 Pump\par\pard\s1 {\listtext\pard 1.\tab}Use\par\pard\s0 Oil it.\par\pard\s12 Cold\par"
           rb"\pard\s0 Warm it.\par\pard\s1 Care\par{\trowd{\pard\intbl Part\par}\cell{\pard\intbl Use\par}\cell\row}"
           rb"\trowd\pard\intbl seal\cell\pard\intbl {\listtext\pard\bullet\tab}oil\par{\listtext\pard\bullet\tab}air\cell\row"
           rb"\pard Wash\-able.\par}")
    found = [(s.path, s.heading, " ".join(s.text.replace("\n", " / ").split())) for s in parse_rtf(rtf)]
    assert found == [((), "Pump", ""), (("Pump",), "1. Use", "Oil it."), (("Pump", "1. Use"), "Cold", "Warm it."),
                     (("Pump",), "Care", "Part | Use / seal | • oil • air / / Wash\xadable.")]
    assert parse_rtf(rtf.replace(b"heading 1", b"Body").replace(b"Heading 2", b"List").replace(b"Title", b"Big"))[0].heading == "Pump"


def test_soft_hyphens_part_no_words(tmp_path):
    (tmp_path/"a.rtf").write_bytes(rb"{\rtf1\ansi Wash\-able.}")
    assert [d.text for d in read_file(tmp_path/"a.rtf")] == ["Washable."]
