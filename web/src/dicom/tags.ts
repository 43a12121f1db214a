/** Read the values of data elements, whatever a damaged file declares. */

import type { DataSet } from 'dicom-parser';

/** The elements that are read, by their keyword in DICOM PS3.6. */
export const TAGS = {
  ImageType: 'x00080008',
  SOPClassUID: 'x00080016',
  SOPInstanceUID: 'x00080018',
  Modality: 'x00080060',
  PatientID: 'x00100020',
  BodyPartExamined: 'x00180015',
  SeriesInstanceUID: 'x0020000e',
  SeriesNumber: 'x00200011',
  InstanceNumber: 'x00200013',
  ImagePositionPatient: 'x00200032',
  ImageOrientationPatient: 'x00200037',
  PlanePositionSequence: 'x00209113',
  PlaneOrientationSequence: 'x00209116',
  SamplesPerPixel: 'x00280002',
  PhotometricInterpretation: 'x00280004',
  PlanarConfiguration: 'x00280006',
  NumberOfFrames: 'x00280008',
  Rows: 'x00280010',
  Columns: 'x00280011',
  BitsAllocated: 'x00280100',
  BitsStored: 'x00280101',
  HighBit: 'x00280102',
  PixelRepresentation: 'x00280103',
  PixelPaddingValue: 'x00280120',
  PixelPaddingRangeLimit: 'x00280121',
  RescaleIntercept: 'x00281052',
  RescaleSlope: 'x00281053',
  RedPaletteColorLookupTableDescriptor: 'x00281101',
  RedPaletteColorLookupTableData: 'x00281201',
  GreenPaletteColorLookupTableData: 'x00281202',
  BluePaletteColorLookupTableData: 'x00281203',
  ModalityLUTSequence: 'x00283000',
  LUTDescriptor: 'x00283002',
  LUTData: 'x00283006',
  PixelValueTransformationSequence: 'x00289145',
  EncryptedAttributesSequence: 'x04000500',
  SharedFunctionalGroupsSequence: 'x52009229',
  PerFrameFunctionalGroupsSequence: 'x52009230',
  FloatPixelData: 'x7fe00008',
  DoubleFloatPixelData: 'x7fe00009',
  PixelData: 'x7fe00010',
} as const;

export type Keyword = keyof typeof TAGS;

/** The value representation of numbers that are not written as text. */
const BINARY: Partial<Record<Keyword, 'US'>> = {
  SamplesPerPixel: 'US',
  PlanarConfiguration: 'US',
  Rows: 'US',
  Columns: 'US',
  BitsAllocated: 'US',
  BitsStored: 'US',
  HighBit: 'US',
  PixelRepresentation: 'US',
  PixelPaddingValue: 'US',
  PixelPaddingRangeLimit: 'US',
  LUTDescriptor: 'US',
  RedPaletteColorLookupTableDescriptor: 'US',
};

export function has(dataSet: DataSet, keyword: Keyword): boolean {
  return TAGS[keyword] in dataSet.elements;
}

/** Return whether an element is missing or has no value. */
export function isEmpty(dataSet: DataSet, keyword: Keyword): boolean {
  const element = dataSet.elements[TAGS[keyword]];
  if (!element || element.length === 0) return true;
  return element.items ? element.items.length === 0 : texts(dataSet, keyword).length === 0;
}

/** Return the values of an element as texts without padding; empty ones are left out. */
export function texts(dataSet: DataSet, keyword: Keyword): string[] {
  const element = dataSet.elements[TAGS[keyword]];
  if (!element || element.items || element.length > 1 << 16) return [];
  const bytes = dataSet.byteArray.subarray(element.dataOffset, element.dataOffset + element.length);
  const text = new TextDecoder('latin1').decode(bytes);
  return text
    .split('\\')
    .map((one) => one.replace(/^[ \0\t\r\n]+|[ \0\t\r\n]+$/g, ''))
    .filter((one) => one !== '');
}

export function text(dataSet: DataSet, keyword: Keyword): string | null {
  return texts(dataSet, keyword).join('\\') || null;
}

/** Return a code string that is safe to show. */
export function code(dataSet: DataSet, keyword: Keyword): string {
  const value = (text(dataSet, keyword) ?? '').toUpperCase();
  return value.replace(/[^A-Z0-9 _/-]/g, '').slice(0, 16).trim();
}

/** Return the values of an element as numbers; none if one of them is not a number. */
export function numbers(dataSet: DataSet, keyword: Keyword): number[] {
  if (BINARY[keyword]) {
    const element = dataSet.elements[TAGS[keyword]];
    if (!element || element.items) return [];
    const count = Math.floor(element.length / 2);
    // Values beyond the end of a truncated file are left out by the parser's own check.
    return Array.from({ length: count }, (_, i) => dataSet.uint16(TAGS[keyword], i) as number);
  }
  const values = texts(dataSet, keyword).map((one) => (/^[+-]?[\d.]/.test(one) ? Number(one) : NaN));
  return values.every((one) => !Number.isNaN(one)) ? values : [];
}

/** Return the first value of an element if it is an integer. */
export function integer(dataSet: DataSet, keyword: Keyword): number | null {
  const [value] = numbers(dataSet, keyword);
  return value !== undefined && Number.isInteger(value) ? value : null;
}

/** Return the items of a sequence; none if it is missing or malformed. */
export function items(dataSet: DataSet | null, keyword: Keyword): DataSet[] {
  const element = dataSet?.elements[TAGS[keyword]];
  return (element?.items ?? []).flatMap((item) => (item.dataSet ? [item.dataSet] : []));
}
