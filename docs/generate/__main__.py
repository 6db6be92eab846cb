"""`python -m docs.generate`: write every generated table and schema."""

from docs.generate import generated

for path, text in generated().items():
    path.write_text(text, encoding="utf-8")
