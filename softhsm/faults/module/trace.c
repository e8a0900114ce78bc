#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "module.h"

static _Atomic int file = -1;

static int trace_file(const char *path)
{
	if (file >= 0)
		return file;
	int opened = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), none = -1;
	if (opened >= 0 && !atomic_compare_exchange_strong(&file, &none, opened))
		close(opened);
	return file;
}

static void hex(FILE *out, const char *comma, const char *name, const void *data, CK_ULONG length)
{
	fprintf(out, "%s\"%s\":\"", comma, name);
	for (CK_ULONG i = 0; data != NULL && i < length; i++)
		fprintf(out, "%02x", ((const unsigned char *)data)[i]);
	fputc('"', out);
}

static void template(FILE *out, const char *name, const CK_ATTRIBUTE *attributes, CK_ULONG count)
{
	const char *comma = "";

	fprintf(out, ",\"%s\":{", name);
	for (CK_ULONG i = 0; attributes != NULL && i < count; i++)
		if (attributes[i].ulValueLen != CK_UNAVAILABLE_INFORMATION) {
			char type[32];
			snprintf(type, sizeof type, "%lu", attributes[i].type);
			hex(out, comma, type, attributes[i].pValue, attributes[i].ulValueLen);
			comma = ",";
		}
	fputc('}', out);
}

static CK_ULONG least(CK_ULONG a, CK_ULONG b) { return a < b ? a : b; }

// argument writes the ith argument. Lengths may be lies: no more is read than the caller's memory holds.
static void argument(FILE *out, const struct call *c, int i, CK_RV rv)
{
	const CK_ULONG *a = c->a;
	int f = c->f;

	switch (letters[f][i]) {
	case 's':
		fprintf(out, ",\"session\":%lu", a[i]);
		break;
	case 'S':
		if (rv == CKR_OK)
			fprintf(out, ",\"session\":%lu", *(CK_ULONG *)a[i]);
		break;
	case 'm':
		if (a[i] != 0)
			fprintf(out, ",\"mechanism\":%lu", ((CK_MECHANISM *)a[i])->mechanism);
		break;
	case 'M':
		fprintf(out, ",\"mechanism\":%lu", a[i]);
		break;
	case 't': // of two, the first is the public key's
		template(out, letters[f][i + 2] == 't' ? "public" : "template", (CK_ATTRIBUTE *)a[i], a[i + 1]);
		break;
	case 'v':
		if (control->lies_count == 0 && (rv == CKR_OK || rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID))
			template(out, "template", (CK_ATTRIBUTE *)a[i], a[i + 1]);
		break;
	case 'd':
		hex(out, ",", i > 1 && letters[f][i - 2] == 'd' ? "signature" : "input", (void *)a[i], a[i + 1]);
		break;
	case 'D':
		if (rv == CKR_OK && a[i + 1] != 0)
			hex(out, ",", "output", (void *)a[i], least(*(CK_ULONG *)a[i + 1], c->room));
		break;
	case 'R':
		if (rv == CKR_OK)
			hex(out, ",", "output", (void *)a[i], a[i + 1]);
		break;
	}
}

static void handles(FILE *out, int f, const CK_ULONG *a, CK_RV rv)
{
	const char *comma = "";

	fputs(",\"objects\":[", out);
	for (int i = 0; letters[f][i] != 0; i++) {
		const CK_ULONG *handle = NULL;
		CK_ULONG count = 1;
		switch (letters[f][i]) {
		case 'o': case 'k': case 'w': case 'u':
			handle = &a[i];
			break;
		case 'O':
			handle = (CK_ULONG *)(rv == CKR_OK ? a[i] : 0);
			break;
		case 'F':
			handle = (CK_ULONG *)(rv == CKR_OK ? a[i] : 0);
			count = rv == CKR_OK ? least(*(CK_ULONG *)a[i + 2], a[i + 1]) : 0;
			break;
		}
		for (CK_ULONG n = 0; handle != NULL && n < count; n++, comma = ",")
			fprintf(out, "%s%lu", comma, handle[n]);
	}
	fputs("]", out);
}

void trace(const char *path, const struct call *c, CK_RV rv)
{
	const CK_ULONG *a = c->a;
	int f = c->f;
	char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);

	if (out == NULL)
		abort();
	fprintf(out, "{\"function\":\"%s\",\"rv\":%lu", names[f], rv);
	for (int i = 0; letters[f][i] != 0; i++)
		argument(out, c, i, rv);
	handles(out, f, a, rv);
	fputs("}\n", out);
	fclose(out);
	// One write a line, so that the lines of threads and processes do not mix.
	if (write(trace_file(path), text, length) != (ssize_t)length) {
		perror(path);
		abort(); // a recording with a gap proves nothing
	}
	free(text);
}
