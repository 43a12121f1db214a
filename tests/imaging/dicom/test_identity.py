from dicom_files import item_of

from hemorrhage_tf.imaging.dicom.reading import read_header


def test_identifying_texts_are_the_parts_of_names_and_the_numbers(write):
    header = read_header(
        write(
            PatientID="P-17",
            PatientName="Muster^Erika Anna^^Dr",
            PatientBirthDate="19700102",
            AccessionNumber="A12345",
            OtherPatientIDs=["X-99", "Y-88"],
            ResponsiblePerson="Vogel^Max",
            PatientTelephoneNumbers="555-1234",
            OtherPatientIDsSequence=[item_of(PatientID="Z-77")],
        )
    )
    expected = {"Muster", "Erika", "Anna", "Vogel", "Max", "19700102", "A12345"}
    assert set(header.identifying) == expected | {"X-99", "Y-88", "Z-77", "555-1234"}
