/** The files of a drop or a file dialog, with their paths. */

export interface NamedFile {
  /** Relative to the folder that was chosen; the name alone for a file that was chosen itself. */
  path: string;
  file: File;
  isNamed: boolean;
}

/** Return the files of a file dialog. */
export function fromList(list: FileList): NamedFile[] {
  return [...list].map((file) => ({
    path: file.webkitRelativePath || file.name,
    file,
    isNamed: !file.webkitRelativePath,
  }));
}

/** Return the files of a drop, those of folders at every depth. */
export async function fromDrop(transfer: DataTransfer): Promise<NamedFile[]> {
  // The entries must be taken before the first wait: the browser clears the list after it.
  const entries = [...transfer.items].map((one) => one.webkitGetAsEntry()).filter((one) => one);
  if (!entries.length) return fromList(transfer.files);
  const files: NamedFile[] = [];
  for (const entry of entries) await collect(entry!, files, true);
  return files;
}

async function collect(
  entry: FileSystemEntry,
  files: NamedFile[],
  isNamed: boolean,
): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    files.push({ path: entry.fullPath.replace(/^\//, ''), file, isNamed });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A browser returns the entries of a folder in parts; an empty part is the end.
    const part = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (!part.length) return;
    for (const one of part) await collect(one, files, false);
  }
}
